"""Styled lines: what the view makes and the screen paints. Owns that all text on them is clean.

A ``Line`` is a tuple of ``Span``s, a style a space-separated string of names out of ``STYLES``.
``line`` is the only way to make one, and it cleans; so nothing that came from elsewhere reaches
the terminal as it came.
"""

from __future__ import annotations

from typing import NamedTuple

from moshi_client.tui import text

STYLES = {
    "bold": "1",
    "dim": "2",
    "reverse": "7",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
COLOURS = frozenset(("red", "green", "yellow", "blue", "magenta", "cyan"))


class Span(NamedTuple):
    """A run of clean text in one style."""

    text: str
    style: str = ""


Line = tuple[Span, ...]
Part = str | tuple[str, str]


def line(*parts: Part) -> Line:
    """A line of texts, each with a style or without."""
    spans = []
    for part in parts:
        shown, style = (part, "") if isinstance(part, str) else part
        if cleaned := text.clean(shown):
            spans.append(Span(cleaned, style))
    return tuple(spans)


def width(of: Line) -> int:
    """Cells of a line."""
    return sum(text.width(span.text) for span in of)


def fit(of: Line, cells: int) -> Line:
    """The line cut to ``cells`` cells, with ``…`` where something is left out."""
    if width(of) <= cells:
        return of
    kept: list[Span] = []
    room = cells
    for span in of:
        if (size := text.width(span.text)) < room:
            kept.append(span)
            room -= size
            continue
        # Something follows that is left out, be it only the end of this span.
        kept.append(Span(text.clip(span.text + " ", room), span.style))
        break
    return tuple(kept)


def fill(of: Line, cells: int, style: str) -> Line:
    """The line cut or padded to ``cells`` cells."""
    fitted = fit(of, cells)
    pad = cells - width(fitted)
    return (*fitted, Span(" " * pad, style)) if pad > 0 else fitted


def apart(left: Line, right: Line, cells: int) -> Line:
    """Two lines as one, at both ends; the right one goes first where there is no room for both."""
    room = cells - width(right) - 1
    if room < 1:
        return fit(right, cells)
    left = fit(left, room)
    return (*left, Span(" " * (cells - width(left) - width(right))), *right)


def joined(parts: list[Line], gap: str = "  ") -> Line:
    """Lines beside each other, empty ones left out."""
    shown: list[Span] = []
    for part in parts:
        if part:
            if shown:
                shown.append(Span(gap))
            shown.extend(part)
    return tuple(shown)


def fitting(parts: list[tuple[int, Line]], cells: int, gap: str = "  ") -> Line:
    """Parts beside each other, those with the highest number left out first until they fit."""
    left = list(parts)
    while len(left) > 1 and width(joined([part for _, part in left], gap)) > cells:
        least = max(range(len(left)), key=lambda i: (left[i][0], i))
        del left[least]
    return fit(joined([part for _, part in left], gap), cells)


def plain(of: Line) -> str:
    """The text alone."""
    return "".join(span.text for span in of)
