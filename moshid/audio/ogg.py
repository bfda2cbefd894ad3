"""An Ogg of several links, as two files that were joined, or a station that was recorded. Owns
where they begin.

libsndfile reads the first of them, and takes its end for the file's.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PAGE: Final = b"OggS\0"
"""What each page begins with; the zero is a version."""

PAGE_HEAD_BYTES: Final = 27
"""After which the sizes of its segments come, a byte each; the last of these says how many."""

FLAGS_AT: Final = 5
BEGINS: Final = 2
"""The flag of a stream's first page. Streams that sound together begin one right after another."""

LOOK_BYTES: Final = 65_536


class Link(io.FileIO):
    """One link, as a file of its own."""

    def __init__(self, path: str, part: range) -> None:
        """Raises OSError."""
        super().__init__(path)
        self._part = part
        self.seek(0)

    def readinto(self, buffer: Any) -> int:
        """As of a file; what libsndfile reads by."""
        left = max(0, len(self._part) - self.tell())
        return super().readinto(memoryview(buffer).cast("B")[:left]) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        match whence:
            case os.SEEK_CUR:
                offset += self.tell()
            case os.SEEK_END:
                offset += len(self._part)
        return super().seek(self._part.start + offset) - self._part.start

    def tell(self) -> int:
        """As of a file."""
        return super().tell() - self._part.start


def find_links(path: str) -> list[range]:
    """Where the links of an Ogg are; none for any other file. Raises OSError."""
    with Path(path).open("rb") as file:
        if file.read(len(PAGE)) != PAGE:
            return []
        begins, was_begin = [], False
        for at, is_begin in _pages(file):
            if is_begin and not was_begin:
                begins.append(at)
            was_begin = is_begin
    if not begins:  # a station that was recorded from its middle on
        return []
    ends = [*begins[1:], Path(path).stat().st_size]
    return [range(*part) for part in zip(begins, ends, strict=True)]


def _pages(file: io.BufferedReader) -> Iterator[tuple[int, bool]]:
    """Each page's place, and whether a stream begins with it; what is damaged is passed over."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(PAGE_HEAD_BYTES)
        if len(head) < PAGE_HEAD_BYTES:
            return
        if head.startswith(PAGE):
            yield at, bool(head[FLAGS_AT] & BEGINS)
            at += PAGE_HEAD_BYTES + head[-1] + sum(file.read(head[-1]))
            continue
        found = (head + file.read(LOOK_BYTES)).find(PAGE, 1)
        at += found if found >= 0 else LOOK_BYTES
