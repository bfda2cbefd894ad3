"""Text on a screen of cells: what may be shown, how wide it is, where it is cut. Pure.

Names, transcripts and log lines come from elsewhere. ``clean`` is what every one of them goes
through before it is shown: afterwards there is nothing in it that moves a cursor, changes a
colour or turns the direction of reading, and nothing whose width terminals disagree about.
"""

from __future__ import annotations

import functools
import unicodedata

REPLACEMENT = "\ufffd"
"""Stands for a character that must not be shown, or that not every terminal knows."""

ELLIPSIS = "…"
MARKS_MAX = 2
"""Combining marks that one letter may carry; more are a way to scribble over other lines."""

_WIDTHLESS_JAMO = ((0x1160, 0x11FF), (0xD7B0, 0xD7FF))
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_VARIATION_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))


@functools.lru_cache(maxsize=2048)
def clean(text: str) -> str:
    """``text`` as it may be shown: no control, format or unassigned characters, in NFC.

    Emoji sequences come apart into their pictures, since terminals do not agree how wide they are.
    """
    if text.isascii() and text.isprintable():
        return text
    kept: list[str] = []
    marks = 0
    for char in unicodedata.normalize("NFC", text):
        shown = _shown(char)
        marks = marks + 1 if shown and cell_width(shown) == 0 else 0
        if marks <= MARKS_MAX:
            kept.append(shown)
    return "".join(kept)


def _shown(char: str) -> str:
    code, category = ord(char), unicodedata.category(char)
    if category in ("Zl", "Zp") or char in "\t\n\r":
        return " "
    if category in ("Cc", "Cs", "Co", "Cn"):
        return REPLACEMENT
    if category == "Cf" or code in _SKIN_TONES or any(code in r for r in _VARIATION_SELECTORS):
        return ""
    return char


@functools.lru_cache(maxsize=4096)
def cell_width(char: str) -> int:
    """Cells of a clean character: 0 for what combines, 2 for East Asian wide and emoji, else 1."""
    code = ord(char)
    if code < 0x300:
        return 1
    if unicodedata.category(char) in ("Mn", "Me") or any(
        low <= code <= high for low, high in _WIDTHLESS_JAMO
    ):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def width(text: str) -> int:
    """Cells of a clean text."""
    return len(text) if text.isascii() else sum(map(cell_width, text))


def clip(text: str, cells: int) -> str:
    """As much of a clean text as fits into ``cells``, with ``…`` for what is left out."""
    if width(text) <= cells:
        return text
    return cut(text, cells - 1) + ELLIPSIS if cells > 0 else ""


def cut(text: str, cells: int) -> str:
    """The first ``cells`` cells of a clean text; a wide character that is halved is left out."""
    if text.isascii():
        return text[: max(0, cells)]
    used = 0
    for at, char in enumerate(text):
        used += cell_width(char)
        if used > cells:
            return text[:at]
    return text


def wrap(text: str, cells: int) -> list[str]:
    """A clean text in lines of at most ``cells`` cells, broken at spaces where there are some."""
    cells = max(2, cells)
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}" if line else word
        if width(joined) <= cells:
            line = joined
            continue
        if line:
            lines.append(line)
        while width(word) > cells:
            head = cut(word, cells)
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line] if line else lines


def plain(text: str) -> str:
    """A clean text for a terminal that is said to show ASCII only."""
    return text if text.isascii() else "".join(c if c.isascii() else _ascii(c) for c in text)


def _ascii(char: str) -> str:
    if cell_width(char) == 0:
        return ""
    return _STAND_INS.get(char) or "?" * cell_width(char)


_STAND_INS = {"…": "~", "─": "-", "│": "|", "█": "#", "░": ".", "·": ".", "›": ">", "●": "*"}
