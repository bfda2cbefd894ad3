"""A sound file whose writer did not come to say how long it is. Owns finding that out.

A recorder that crashed, and many a program that writes into a pipe, leave the sound's size at 0, or
(as CAF allows) at -1. libsndfile takes that for no sound, or for no sound file; so such a file is
read with the size in it that would be right.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

ALL_THERE_IS: Final = b"\xff\xff\xff\xff"
"""As the size in a WAV or AU."""

CHUNKS_MAX: Final = 100
CAF_UNKNOWN: Final = (-1, 0, 4)
"""The count of edits, four bytes, comes before the sound."""

DS64_DATA_AT: Final = 28
"""Where an RF64 has the size of its data, in its first chunk."""


class Size(NamedTuple):
    """What should stand where."""

    at: int
    bytes: bytes


class Unfinished(io.FileIO):
    """The file as it is, but for its sound's size."""

    def __init__(self, path: str, size: Size) -> None:
        """``size``: as ``find_size`` tells. Raises OSError."""
        super().__init__(path)
        self._size = size

    def readinto(self, buffer: Any) -> int:
        """As of a file; what libsndfile reads by."""
        begin = self.tell()
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        for i, byte in enumerate(self._size.bytes, self._size.at - begin):
            if 0 <= i < count:
                view[i] = byte
        return count


def find_size(path: str) -> Size | None:
    """The size that a WAV, RF64, CAF or AU lacks though there is sound; None for anything else.

    Raises OSError.
    """
    file_bytes = Path(path).stat().st_size
    with io.FileIO(path) as file:
        match file.read(4):
            case b"RIFF":
                return _of_wav(file, file_bytes)
            case b"RF64":
                return _of_rf64(file, file_bytes)
            case b"caff":
                return _of_caf(file, file_bytes)
            case b".snd":
                return _of_au(file, file_bytes)
    return None


def _of_wav(file: io.FileIO, file_bytes: int) -> Size | None:
    """What follows data of no bytes is another chunk, where the size of the whole is right."""
    (riff_bytes,) = _unpack(file, "<I")
    begin, size = _find_data(file, 12, "<I")
    if riff_bytes + 8 == file_bytes or size != 0 or begin >= file_bytes:
        return None
    return Size(begin - 4, ALL_THERE_IS)


def _of_rf64(file: io.FileIO, file_bytes: int) -> Size | None:
    """EBU Tech 3306: sizes of 64 bits stand in its first chunk, ``ds64``."""
    file.seek(12)
    name, _size, riff_bytes, data_bytes = _unpack(file, "<4sIQQ")
    begin, _all = _find_data(file, 12, "<I")
    is_known = data_bytes != 0 or riff_bytes + 8 == file_bytes
    if name != b"ds64" or is_known or begin >= file_bytes:
        return None
    return Size(DS64_DATA_AT, struct.pack("<Q", file_bytes - begin))


def _of_caf(file: io.FileIO, file_bytes: int) -> Size | None:
    """Without a size of the whole: chunks behind it that end with the file are no sound."""
    begin, size = _find_data(file, 8, ">q")
    if size not in CAF_UNKNOWN or begin + 4 >= file_bytes:
        return None
    if size >= 0 and _are_chunks(file, begin + size, file_bytes):
        return None
    return Size(begin - 8, struct.pack(">q", file_bytes - begin))


def _of_au(file: io.FileIO, file_bytes: int) -> Size | None:
    begin, size = _unpack(file, ">II")
    return Size(8, ALL_THERE_IS) if size == 0 and begin < file_bytes else None


def _find_data(file: io.FileIO, at: int, form: str) -> tuple[int, int]:
    """Where the ``data`` among the chunks from ``at`` on begins, and the size that it says; -2
    without one."""
    for _ in range(CHUNKS_MAX):
        file.seek(at)
        (name,), (size,) = _unpack(file, "4s"), _unpack(file, form)
        at = file.tell()
        if name == b"data":
            return at, size
        at += max(0, size)
        at += size % 2 if form == "<I" else 0
    return at, -2


def _are_chunks(file: io.FileIO, at: int, end: int) -> bool:
    """Whether a CAF's chunks, from ``at`` on, end where the file does."""
    for _ in range(CHUNKS_MAX):
        file.seek(at)
        _name, size = _unpack(file, ">4sq")
        at = file.tell() + size
        if size < 0 or at >= end:
            return at == end
    return False


def _unpack(file: io.FileIO, form: str) -> tuple[Any, ...]:
    """Zeros where the file has ended."""
    size = struct.calcsize(form)
    return struct.unpack(form, file.read(size).ljust(size, b"\0"))
