"""What the terminal UI lets through to a terminal, and how wide it takes it to be."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_client.tui import lines, text


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[2Jgone", "\ufffd[2Jgone"),
        ("a\x9b31mb", "a\ufffd31mb"),
        ("a\tb\nc\r", "a b c "),
        ("\u202eevil\u202c", "evil"),
        ("\ud800", "\ufffd"),
        ("\U000f0000 private", "\ufffd private"),
        ("e\u0301", "\u00e9"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\U0001f469\U0001f467"),
        ("\U0001f44d\U0001f3fd", "\U0001f44d"),
        ("\u2764\ufe0f", "\u2764"),
        ("x" + "\u0301\u0302\u0303\u0304\u0305", "x\u0301\u0302"),
    ],
)
def test_what_could_harm_or_mislead_is_taken_out(given_text: str, shown: str) -> None:
    assert text.clean(given_text) == shown


@settings(derandomize=True, deadline=None, database=None)
@given(st.text())
def test_clean_text_has_no_control_and_no_format_characters(given_text: str) -> None:
    shown = text.clean(given_text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert text.clean(shown) == shown


@pytest.mark.parametrize(
    ("given_text", "cells"),
    [
        ("abc", 3),
        ("日本", 4),
        ("👍", 2),
        ("e\u0302\u0323", 1),
        ("한국", 4),
        ("\u1112\u1161", 2),
        ("…─█", 3),
    ],
)
def test_widths_are_those_of_terminals(given_text: str, cells: int) -> None:
    assert text.width(given_text) == cells


@settings(derandomize=True, deadline=None, database=None)
@given(st.text(alphabet="ab 日👍é", max_size=60), st.integers(2, 20))
def test_wrapped_lines_fit_and_lose_nothing(given_text: str, cells: int) -> None:
    wrapped = text.wrap(given_text, cells)
    assert all(text.width(row) <= cells for row in wrapped)
    assert "".join(wrapped).replace(" ", "") == given_text.replace(" ", "")


@settings(derandomize=True, deadline=None, database=None)
@given(st.text(alphabet="ab 日👍é", max_size=30), st.integers(0, 40))
def test_a_line_that_is_cut_says_so(given_text: str, cells: int) -> None:
    half = len(given_text) // 2
    cut = lines.fit(lines.line((given_text[:half], "bold"), given_text[half:]), cells)
    assert lines.width(cut) <= cells
    if text.width(given_text) <= cells:
        assert lines.plain(cut) == given_text
    elif cells > 0:
        assert lines.plain(cut).endswith("…")


def test_a_terminal_of_ascii_gets_ascii_of_the_same_width() -> None:
    shown = text.plain("─█░ 日本 é…")
    assert shown == "-#. ???? ?~"
    assert len(shown) == text.width("─█░ 日本 é…")


def test_parts_that_matter_least_are_left_out_first() -> None:
    parts = [(0, lines.line("name")), (2, lines.line("detail")), (1, lines.line("state"))]
    assert lines.plain(lines.fitting(parts, 30)) == "name  detail  state"
    assert lines.plain(lines.fitting(parts, 15)) == "name  state"
    assert lines.plain(lines.fitting(parts, 6)) == "name"
    assert lines.plain(lines.fitting(parts, 3)) == "na…"


def test_both_ends_of_a_line_keep_apart() -> None:
    shown = lines.apart(lines.line("a long left side"), lines.line("right"), 15)
    assert lines.plain(shown) == "a long l… right"
    assert lines.plain(lines.apart(lines.line("left"), lines.line("right"), 5)) == "right"
