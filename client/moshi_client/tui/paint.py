"""Styled lines as the bytes that draw them, the changed ones only. Pure but for the last frame.

Every span that follows non-ASCII text is placed by its column, so that a terminal that thinks
otherwise of a character's width spoils that text alone.
"""

from __future__ import annotations

import functools

from moshi_client.tui import text
from moshi_client.tui.lines import COLOURS, STYLES, Line

CLEAR = "\x1b[0m\x1b[2J"


class Painter:
    """Remembers what stands on the screen."""

    def __init__(self, *, colours: bool, ascii_only: bool) -> None:
        self._colours = colours
        self._ascii_only = ascii_only
        self._shown: list[Line] | None = None

    def forget(self) -> None:
        """The screen shows something else now: the next frame is painted whole."""
        self._shown = None

    def paint(self, frame: list[Line], width: int) -> bytes:
        """What turns the last frame into this one, on a screen of ``width`` columns; nothing, if
        nothing changed."""
        before = self._shown
        parts: list[str] = []
        if before is None or len(before) != len(frame):
            parts.append(CLEAR)
            before = [()] * len(frame)
        for row, (was, now) in enumerate(zip(before, frame, strict=True), start=1):
            if was != now:
                parts.append(self._row(row, now, width))
        self._shown = list(frame)
        # What cannot be encoded was replaced by ``clean``; this is for the impossible.
        return "".join(parts).encode("utf-8", "replace")

    def _row(self, row: int, spans: Line, width: int) -> str:
        parts = [f"\x1b[{row};1H"]
        column, is_sure = 1, True
        for span in spans:
            shown = text.plain(span.text) if self._ascii_only else span.text
            if not is_sure:
                parts.append(f"\x1b[{column}G")
            parts.append(_sgr(span.style, self._colours) + shown)
            column += text.width(span.text)
            is_sure = shown.isascii()
        # Behind a full line the cursor stands on its last character, which K would erase.
        return "".join([*parts, "\x1b[0m", "\x1b[K" if column <= width else ""])


@functools.cache
def _sgr(style: str, colours: bool) -> str:
    names = [name for name in style.split() if colours or name not in COLOURS]
    return f"\x1b[{';'.join(['0', *(STYLES[name] for name in names)])}m"
