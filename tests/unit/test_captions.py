"""A talk's words as WebVTT: where a cue begins and ends, and that a strict reader takes it."""

from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from moshid.talk.captions import Captions, whole


def captioned(*words: tuple[float, str]) -> str:
    return whole([{"heard_s": at_s, "text": text} for at_s, text in words])


def test_a_sentence_is_a_cue() -> None:
    text = captioned((0.24, " Hel"), (0.32, "lo."), (1.2, " How"), (1.36, " are"), (1.52, " you?"))
    assert text == (
        "WEBVTT\n\n"
        "00:00:00.240 --> 00:00:00.720\n<v Moshi>Hello.\n\n"
        "00:00:01.200 --> 00:00:01.920\n<v Moshi>How are you?\n\n"
    )


def test_a_pause_and_a_long_line_begin_a_new_cue_between_words() -> None:
    text = captioned((3599.0, " one"), (3600.5, " two"), (3600.6, "fold"))
    assert "00:59:59.000 --> 00:59:59.400\n<v Moshi>one\n" in text
    assert "01:00:00.500 --> 01:00:01.000\n<v Moshi>twofold\n" in text
    long = captioned(*((n / 5, " words") for n in range(30)))
    lines = [line for line in long.splitlines() if line.startswith("<v")]
    assert len(lines) == 3
    assert all(len(line) <= len("<v Moshi>") + 60 for line in lines)
    assert "".join(lines).count("words") == 30


def test_text_without_blanks_is_cut_into_cues_too() -> None:
    """As Japanese is: by its own full stops, at pauses, and where a line would be too long."""
    stopped = captioned((0.0, "今日は"), (0.2, "いい。"), (0.4, "本当"), (2.4, "に"))
    lines = [line for line in stopped.splitlines() if line.startswith("<v")]
    assert lines == ["<v Moshi>今日はいい。", "<v Moshi>本当", "<v Moshi>に"]
    long = captioned(*((n / 5, "言葉") for n in range(600)))
    lines = [line for line in long.splitlines() if line.startswith("<v")]
    assert len(lines) == 10
    assert "".join(lines).count("言葉") == 600


TIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")


def cues(vtt: str) -> list[tuple[int, int, str]]:
    """A WebVTT file, read as strictly as its grammar is: ``(begin_ms, end_ms, text)`` of each."""
    head, *blocks = vtt.split("\n\n")
    assert head == "WEBVTT"
    assert blocks.pop() == "", "the last one ends, too"
    found: list[tuple[int, int, str]] = []
    for block in blocks:
        timing, text = block.split("\n")
        begin_ms, end_ms = (_ms(time) for time in timing.split(" --> "))
        assert (found[-1][0] if found else 0) <= begin_ms < end_ms
        assert text.startswith("<v Moshi>")
        inner = text.removeprefix("<v Moshi>")
        assert not re.search(r"[<>\r]|-->|&(?!amp;|lt;|gt;)", inner)
        found.append((begin_ms, end_ms, inner))
    return found


def _ms(time: str) -> int:
    match = TIME.fullmatch(time)
    assert match is not None, time
    hours, minutes, seconds, ms = map(int, match.groups())
    return 1000 * (3600 * hours + 60 * minutes + seconds) + ms


PIECES = st.sampled_from([" a", "b", ". ", "-->", "\n\n", "NOTE", "&", "<c>", "\u2028", "\r"])


@given(st.lists(st.tuples(st.integers(1, 100_000), PIECES | st.text(max_size=90))))
def test_whatever_is_said_the_captions_are_webvtt(said: list[tuple[int, str]]) -> None:
    """Pieces come a frame apart at least, and each character is in one cue, but for blanks."""
    frame, words = 0, []
    for after, text in said:
        frame += after
        words.append((round(0.08 * frame, 2), text))
    shown = "".join(html.unescape(text) for _, _, text in cues(captioned(*words)))
    wanted = "".join(text for _, text in said)
    assert "".join(shown.split()) == "".join(wanted.split())


def test_what_would_be_markup_is_escaped_and_blanks_are_no_cue() -> None:
    assert "<v Moshi>a &lt;b&gt; &amp; c" in captioned((0.0, " a <b> & c"))
    captions = Captions()
    assert captions.add("  ", 1.0) == ""
    assert captions.finish() == ""
