"""The terminal UI's picture, at every size, and the bytes that draw it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_client.tui import lines, overlay, paint
from moshi_client.tui.act import BINDINGS
from moshi_client.tui.lines import Line
from moshi_client.tui.state import Note, Question, State
from moshi_client.tui.view import allot, footer, view
from tests.fakes.tui_states import CONTROLS, LOG, MODEL, job, listening, say, talk

SIZES = [(40, 10), (60, 15), (80, 18), (80, 24), (100, 30), (130, 40), (200, 60)]
ANY_SIZE = st.tuples(st.integers(1, 210), st.integers(1, 70))
OURS = re.compile(rb"\x1b\[(?:0m|2J|K|[0-9;]*[HGm])")
"""The only sequences that a painted frame may hold."""

SETTINGS = settings(derandomize=True, deadline=None, database=None)


def shown(state: State, width: int, height: int) -> str:
    frame = view(state, width, height)
    assert len(frame) == height
    assert all(lines.width(row) <= width for row in frame)
    return "\n".join(lines.plain(row) for row in frame)


def drawn(
    frame: list[Line], width: int = 80, *, colours: bool = True, ascii_only: bool = False
) -> bytes:
    return paint.Painter(colours=colours, ascii_only=ascii_only).paint(frame, width)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_what_matters_most_stands_at_every_size(width: int, height: int) -> None:
    text = shown(listening(), width, height)
    for wanted in ("connected", "moshiko q4", "busy", "step", "p99 33.0", "j1", "25.0 %", "you"):
        assert wanted in text
    assert "quit" in text
    assert "Hello" in text


@pytest.mark.parametrize(("width", "height"), [s for s in SIZES if s[0] >= 80 and s[1] >= 24])
def test_an_ordinary_window_shows_all_of_it(width: int, height: int) -> None:
    text = shown(listening(), width, height)
    for wanted in ("moshid 0.1.0", "pid 7", "since 10:31", "50.0 MB", "5.1 GB", "41 %"):
        assert wanted in text
    for wanted in ("downloading", "3.4 MB/s", "ETA 17:39", "8 connections", "2 retries"):
        assert wanted in text
    for wanted in ("listening 1:23", "latency p50 310, p95 333 ms", "3 lagged, 1 underrun"):
        assert wanted in text
    for wanted in ("echo cancel on", "-20 dB  speaking", "speech 90 %", "0:03 Hello, how are"):
        assert wanted in text
    assert "warning moshid.x: hm" in text


@settings(SETTINGS, max_examples=60)
@given(ANY_SIZE, st.integers(0, 12), st.booleans(), st.integers(0, 30))
def test_the_picture_fits_every_window(
    size: tuple[int, int], jobs: int, is_help: bool, scrolled: int
) -> None:
    state = replace(
        listening(),
        jobs=tuple(job(f"日本語-{n}" * 4) for n in range(jobs)),
        help=is_help,
        scrolled=scrolled,
        question=Question("Really? " * 12, ()) if jobs % 3 == 1 else None,
    )
    for number in range(12):
        state = say(state, "words 👍 日本語 and more " * 7, number * 9.0)
    assert shown(state, *size).strip()


def test_a_question_can_always_be_answered() -> None:
    state = replace(listening(), question=Question("Cancel the download of this one? " * 20, ()))
    for width, height in SIZES:
        assert "y yes   n no" in shown(state, width, height)


def test_the_help_names_every_key() -> None:
    text = shown(replace(listening(), help=True), 80, 24)
    assert all(keys in text and what in text for keys, what in BINDINGS)
    assert "more: moshi-client help tui" in shown(replace(listening(), help=True), 40, 10)


@pytest.mark.parametrize(
    ("controls", "wanted"),
    [
        ({"muted": True}, "MUTED: m opens  you speak, and are not heard"),
        ({"paused": True}, "PAUSED: p goes on"),
        ({"push_to_talk": True}, "push-to-talk: hold space"),
        ({"push_to_talk": True, "talking": True}, "ON AIR"),
        ({"volume": 0.5}, "volume 50 %"),
    ],
)
def test_a_control_that_is_not_as_usual_is_said(controls: dict[str, Any], wanted: str) -> None:
    for size in ((80, 24), (60, 14)):
        assert wanted in shown(listening(controls={**CONTROLS, **controls}), *size)
        assert wanted not in shown(listening(), *size)


def test_recording_is_said() -> None:
    recording = {"folder": "/r", "state": "on", "bytes": 2_000_000}
    text = shown(listening(recording=recording), 80, 24)
    assert "● REC listening" in text
    assert "recording to /r, 2.0 MB" in text
    ended = {**recording, "state": "stopped", "reason": "disk_full"}
    assert "recording stopped: disk_full" in shown(listening(recording=ended), 80, 24)


def test_a_lost_daemon_is_seen_at_once() -> None:
    state = replace(listening(), connected=False, talk={}, note=Note("the daemon went away", True))
    text = shown(state, 80, 24)
    assert "the daemon is away: trying again" in text
    assert text.endswith("the daemon went away")
    assert any("red" in span.style for span in view(state, 80, 24)[0])


def test_a_model_that_loads_shows_how_far_it_is() -> None:
    progress = {"stage": "weights", "fraction": 0.5, "bytes_done": 2e9, "bytes_total": 4e9}
    model = {**MODEL, "state": "loading", "step_ms": None, "memory_bytes": None}
    text = shown(State(model={**model, "progress": progress}), 80, 24)
    assert "loading  ██████████░░░░░░░░░░  50 % weights  2.0 GB of 4.0 GB" in text


def test_a_model_in_trouble_says_so() -> None:
    fault = {"at": "2026-01-02T10:00:01Z", "kind": "model.stalled", "message": "a step hung"}
    assert "last fault: a step hung at " in shown(
        State(model={**MODEL, "last_fault": fault}), 80, 24
    )
    error = {"kind": "model.crash_loop", "message": "it died too often"}
    text = shown(State(model={**MODEL, "state": "failed", "error": error}), 80, 24)
    assert "error: it died too often" in text


@pytest.mark.parametrize(("p99", "style"), [(40.0, "green"), (75.0, "yellow"), (90.0, "red")])
def test_steps_over_the_budget_are_red(p99: float, style: str) -> None:
    state = State(model={**MODEL, "step_ms": {"p50": 20.0, "p95": 30.0, "p99": p99}})
    steps = next(row for row in view(state, 80, 24) if lines.plain(row).startswith(" step"))
    assert {s.style for s in steps if "█" in s.text} == {style}


def test_the_chosen_download_is_in_sight_with_its_details() -> None:
    state = State(jobs=tuple(job(f"j{n}", error={"message": f"e{n}"}) for n in range(40)))
    for number in (0, 17, 39):
        text = shown(replace(state, selected=f"j{number}"), 80, 24)
        assert f"›j{number} " in text
        assert f" e{number}\n" in text
    assert allot(state, 18).downloads < 40


def test_finished_downloads_stand_last_and_without_a_bar() -> None:
    text = shown(State(jobs=(job("old", "done"), job("new"))), 80, 24)
    assert text.index("new") < text.index("old")
    assert "old  done  4.8 GB" in text


def test_the_transcript_scrolls_back_and_stops_at_its_begin() -> None:
    state = listening()
    for number in range(50):
        state = say(state, f"word{number}", 10.0 + number * 9)
    assert "word49" in shown(state, 80, 24)
    back = shown(replace(state, scrolled=20), 80, 24)
    assert "word49" not in back
    assert "word29" in back
    assert "Hello, how are you?" in shown(replace(state, scrolled=500), 80, 24)


def test_hints_are_those_of_the_moment() -> None:
    def told(state: State, width: int = 130) -> str:
        return lines.plain(footer(state, width))

    assert "t talk" in told(State())
    assert "m mute" not in told(State())
    assert "s stop" in told(listening())
    assert "x cancel it" in told(listening())
    assert told(listening(), 30).startswith(" q quit   ? keys")


def test_sparse_answers_are_shown_all_the_same() -> None:
    state = State(model={}, jobs=({"id": "x"},), talk={"state": "listening", "session": "s"})
    state = replace(state, log=({}, {"msg": "only"}), levels={"input_dbfs": None})
    for size in SIZES:
        assert "connected" in shown(state, *size)


HOSTILE = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e\r\n\x00日"


def test_nothing_from_outside_reaches_the_terminal_as_it_came() -> None:
    state = replace(
        listening(model=HOSTILE, owner=HOSTILE, recording={"state": "on", "folder": HOSTILE}),
        model={**MODEL, "model": HOSTILE, "error": {"message": HOSTILE}},
        jobs=(job(HOSTILE, error={"message": HOSTILE}, priority=HOSTILE),),
        log=({**LOG, "msg": HOSTILE, "logger": HOSTILE, "level": HOSTILE},),
        daemon={"version": HOSTILE, "pid": HOSTILE, "since": HOSTILE},
        limits={"schedule": HOSTILE, "until": HOSTILE},
        note=Note(HOSTILE),
    )
    state = say(state, HOSTILE, 5.0)
    for frame in (
        view(state, 200, 60),
        view(replace(state, note=None, question=Question(HOSTILE, ())), 80, 24),
    ):
        rest = OURS.sub(b"", drawn(frame))
        assert b"owned" in rest
        assert not re.search(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80\xae", rest)


@settings(SETTINGS)
@given(st.text(), st.text())
def test_no_text_at_all_can_bring_a_control_character(one: str, other: str) -> None:
    rest = OURS.sub(b"", drawn([lines.line((one, "bold"), other)]))
    assert not re.search(rb"[\x00-\x1f\x7f]|\xc2[\x80-\x9f]", rest)


def on_a_terminal(data: bytes, width: int, height: int) -> list[str]:
    screen = pyte.Screen(width, height)
    pyte.ByteStream(screen).feed(data)
    return [row.rstrip() for row in screen.display]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_terminal_shows_what_the_view_says(width: int, height: int) -> None:
    state = say(listening(), " 日本語 👍 é ✓", 3.4)
    frame = view(state, width, height)
    seen = on_a_terminal(drawn(frame, width), width, height)
    assert seen == [lines.plain(row).rstrip() for row in frame]


def test_only_lines_that_changed_are_drawn_again() -> None:
    painter = paint.Painter(colours=True, ascii_only=False)
    state = listening()
    first = painter.paint(view(state, 80, 24), 80)
    assert painter.paint(view(state, 80, 24), 80) == b""
    louder = replace(state, levels={**state.levels, "input_dbfs": -5.0})
    change = painter.paint(view(louder, 80, 24), 80)
    assert change.count(b"H") == 1
    assert len(change) < len(first) / 8
    seen = on_a_terminal(first + change, 80, 24)
    assert seen == [lines.plain(row).rstrip() for row in view(louder, 80, 24)]
    painter.forget()
    assert painter.paint(view(louder, 80, 24), 80).startswith(paint.CLEAR.encode())


def test_the_last_character_of_a_full_line_is_not_erased() -> None:
    """xterm and tmux leave the cursor on it, where the rest of the line would begin."""
    assert drawn([lines.line("full")], width=4).endswith(b"full\x1b[0m")
    assert drawn([lines.line("ful")], width=4).endswith(b"ful\x1b[0m\x1b[K")
    assert drawn([lines.line("日本")], width=4).endswith("日本\x1b[0m".encode())


def test_no_colours_where_none_are_wanted() -> None:
    frame = view(listening(), 80, 24)
    assert re.search(rb"\x1b\[[0-9;]*3[0-9]m", drawn(frame))
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", drawn(frame, colours=False))


def test_ascii_alone_for_a_terminal_that_knows_no_more() -> None:
    frame = view(say(listening(), " 日本語", 3.4), 80, 24)
    data = drawn(frame, ascii_only=True)
    assert data.isascii()
    assert "??????" in "\n".join(on_a_terminal(data, 80, 24))


def test_an_overlay_covers_whole_lines() -> None:
    frame = overlay.question_box(view(listening(), 80, 24), Question("Really?", ()), 80)
    reversed_rows = [row for row in frame if row and all("reverse" in s.style for s in row)]
    assert len(reversed_rows) == 4
    assert all(lines.width(row) == 80 for row in reversed_rows)


def test_the_last_talk_can_be_read_when_it_is_over() -> None:
    state = replace(listening(), talk=talk("stopped", reason="input_end"))
    text = shown(state, 80, 24)
    assert "the last talk: input end  3 lagged, 1 underrun  latency p50 310" in text
    assert "Hello, how are you?" in text


def test_a_sound_checks_verdict_is_told() -> None:
    verdict = {
        "microphone": {"ok": True, "reason": "ok"},
        "speaker": {"ok": False, "reason": "too_quiet", "hint": "Turn it up."},
        "latency_ms": 121.7,
        "echo": {"heard": False},
    }
    state = replace(listening(), talk=talk("stopped", engine="echo", verdict=verdict))
    told = "microphone ok  speaker too quiet  122 ms there and back  no echo"
    assert told in shown(state, 80, 24)
    assert "REC" not in shown(
        replace(state, talk={**state.talk, "recording": {"state": "on"}}), 80, 24
    )
