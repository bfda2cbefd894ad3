"""A WAV whose writer did not come to say how long it is. Owns finding that out, and reading it.

A recorder that crashed, and many a program that writes into a pipe, leave the data's size at 0,
which libsndfile takes for no sound. 2**32 - 1 it understands as "all that is there".
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, Final

ALL_THERE_IS: Final = b"\xff\xff\xff\xff"
CHUNKS_MAX: Final = 100


class UnfinishedWav(io.FileIO):
    """The file as it is, but for its data's size."""

    def __init__(self, path: str, size_at: int) -> None:
        """``size_at``: where that size stands, as ``find_size`` tells. Raises OSError."""
        super().__init__(path)
        self._size_at = size_at

    def readinto(self, buffer: Any) -> int:
        """As of a file; what libsndfile reads by."""
        begin = self.tell()
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        for i, byte in enumerate(ALL_THERE_IS, self._size_at - begin):
            if 0 <= i < count:
                view[i] = byte
        return count


def find_size(path: str) -> int | None:
    """Where the size of the data stands, if it is 0 and there is sound all the same.

    None for anything else. What follows data of no bytes is another chunk, and no sound, where the
    size of the whole is right. Raises OSError.
    """
    file_bytes = Path(path).stat().st_size
    with io.FileIO(path) as file:
        riff, riff_bytes, wave = _unpack("<4sI4s", file.read(12))
        if (riff, wave) != (b"RIFF", b"WAVE") or riff_bytes + 8 == file_bytes:
            return None
        for _ in range(CHUNKS_MAX):
            begin = file.tell()
            name, size = _unpack("<4sI", file.read(8))
            if name == b"data":
                return begin + 4 if size == 0 and begin + 8 < file_bytes else None
            file.seek(size + size % 2, io.SEEK_CUR)
    return None


def _unpack(form: str, data: bytes) -> tuple[Any, ...]:
    """Zeros where the file has ended."""
    return struct.unpack(form, data.ljust(struct.calcsize(form), b"\0"))
