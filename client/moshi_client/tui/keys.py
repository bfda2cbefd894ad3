"""Bytes from the keyboard as names of keys. Pure but for what is left over between two reads.

A printable character is its own name; the others are ``up``, ``down``, ``page_up``, ``page_down``,
``enter``, ``escape``, ``space``, ``redraw`` (Ctrl-L). Unknown sequences and pasted text are
swallowed whole: a paste of a page must not press fifty keys.
"""

from __future__ import annotations

import re

ESCAPE_WAIT_S = 0.1
"""So long after an ESC alone it was the key; a sequence follows sooner, over slow lines too."""

PASTE_BEGINS, PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
LEFT_OVER_MAX = 64
"""Bytes of one key at most; what is longer is none."""

_SEQUENCE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O\x1b])", re.DOTALL)
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
_NAMED = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1b[5~": "page_up",
    b"\x1b[6~": "page_down",
    b" ": "space",
    b"\r": "enter",
    b"\n": "enter",
    b"\x0c": "redraw",
}


class Keys:
    """Takes bytes as they are read, gives keys."""

    def __init__(self) -> None:
        self._bytes = b""
        self._pasting = False

    @property
    def is_waiting(self) -> bool:
        """Whether a key is begun and not ended; ``flush`` when nothing has followed in time."""
        return bool(self._bytes) and not self._pasting

    def feed(self, data: bytes) -> list[str]:
        """The keys that ``data`` completes."""
        self._bytes += data
        keys: list[str] = []
        while self._bytes:
            if self._pasting:
                if not self._skip_paste():
                    break
            elif (taken := self._take()) is None:
                break
            elif taken:
                keys.append(taken)
        return keys

    def flush(self) -> list[str]:
        """Nothing has followed: an ESC alone was the key, anything else is dropped."""
        was, self._bytes = self._bytes, b""
        return ["escape"] if was == b"\x1b" else []

    def _skip_paste(self) -> bool:
        before, end, after = self._bytes.partition(PASTE_ENDS)
        # The end may come in two reads; no more than its length has to be kept.
        self._bytes = after if end else before[-len(PASTE_ENDS) :]
        self._pasting = not end
        return bool(end)

    def _take(self) -> str | None:
        """The next key, "" for one of no meaning, None when it is not all there."""
        if self._bytes[:1] == b"\x1b":
            return self._take_sequence()
        size = _utf8_size(self._bytes[0])
        if len(self._bytes) < size:
            return None
        char, self._bytes = self._bytes[:size], self._bytes[size:]
        if named := _NAMED.get(char):
            return named
        decoded = char.decode("utf-8", "replace")
        return decoded if decoded.isprintable() else ""

    def _take_sequence(self) -> str | None:
        if (found := _SEQUENCE.match(self._bytes)) is None:
            if _BEGUN.match(self._bytes):
                if len(self._bytes) > LEFT_OVER_MAX:
                    self._bytes = b""
                return None
            self._bytes = self._bytes[1:]
            return "escape" if self._bytes[:1] == b"\x1b" else ""
        self._bytes = self._bytes[found.end() :]
        if found[0] == PASTE_BEGINS:
            self._pasting = True
        return _NAMED.get(found[0], "")


def _utf8_size(first: int) -> int:
    if first < 0xC0 or first >= 0xF8:
        return 1
    return 2 if first < 0xE0 else 3 if first < 0xF0 else 4
