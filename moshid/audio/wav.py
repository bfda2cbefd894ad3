"""A WAV that is whole at every moment, however its writer ends. Owns the header and its mending.

The header is brought up to date while the file grows; what a killed writer leaves, ``mend`` brings
to its true length. 16 bits at 24 kHz only. The daemon mends too: no sound library here.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

SAMPLE_RATE: Final = 24_000
CHANNELS: Final = 2
FRAME_BYTES: Final = 2 * CHANNELS
"""One sample of each channel."""

HEADER_BYTES: Final = 44
FILE_BYTES_MAX: Final = 2**32 - 2**20
"""A WAV counts its bytes in 32 bits: 12 hours of this."""


class WavWriter:
    """Appends to a file. Raises OSError where the disk does."""

    def __init__(self, path: Path, *, channels: int = CHANNELS, fd: int | None = None) -> None:
        """Make the file, private to this user. One that is there already is not overwritten: when
        it is ours, as another process has left it, the writer goes on at its end.

        Args:
            fd: of an empty file at ``path`` that is written instead; closed in any case.

        Raises:
            ValueError: there is a file that is none of ours.
        """
        self._channels = channels
        begun = fd is None and path.exists()
        if begun:
            mend(path)
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if begun else os.O_CREAT | os.O_EXCL)
        self._fd = os.open(path, flags, 0o600) if fd is None else fd
        self.size_bytes = os.lseek(self._fd, 0, os.SEEK_END)
        try:
            if not begun:
                self.write(_header(0, channels))
        except OSError:
            os.close(self._fd)
            if fd is None:
                path.unlink()
            raise

    @property
    def samples(self) -> int:
        """How many samples of each channel are in it."""
        return max(0, self.size_bytes - HEADER_BYTES) // (2 * self._channels)

    @property
    def seconds(self) -> float:
        """How much sound is in it."""
        return self.samples / SAMPLE_RATE

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes: little-endian 16-bit samples, left and right in turn."""
        view = memoryview(data).cast("B")
        while view:
            written = os.write(self._fd, view)
            self.size_bytes += written
            view = view[written:]

    def skip(self, samples: int) -> None:
        """Append silence. It takes no time, and on most disks no room, however long it is."""
        self.size_bytes += samples * 2 * self._channels
        os.ftruncate(self._fd, self.size_bytes)
        os.lseek(self._fd, self.size_bytes, os.SEEK_SET)

    def settle(self, *, sync: bool = False) -> None:
        """Bring the header up to date; with ``sync`` wait until all is on the disk."""
        os.pwrite(self._fd, _header(self.size_bytes - HEADER_BYTES, self._channels), 0)
        if sync:
            os.fsync(self._fd)

    def close(self, *, sync: bool = True) -> None:
        """Header and length exact; with ``sync`` on the disk."""
        try:
            _trim(self._fd, self._channels)
            if sync:
                os.fsync(self._fd)
        finally:
            os.close(self._fd)


def mend(path: Path) -> float:
    """Bring header and length of a stereo file of ours together; returns its seconds of sound.

    Raises:
        OSError: it cannot be read or written, or is not there.
        ValueError: it is no file that ``WavWriter`` began.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        found, ours = os.pread(fd, HEADER_BYTES, 0), _header(0, CHANNELS)
        # All but the two sizes has to be the same, as far as it was written.
        for part in (slice(0, 4), slice(8, 40)):
            if not ours[part].startswith(found[part]):
                raise ValueError(f"{path} is no recording of ours")
        samples_bytes = _trim(fd, CHANNELS)
        os.fsync(fd)
    finally:
        os.close(fd)
    return samples_bytes / FRAME_BYTES / SAMPLE_RATE


def _trim(fd: int, channels: int) -> int:
    """Cut off half a frame at the end, write the header; returns the bytes of sound."""
    size = max(0, os.fstat(fd).st_size - HEADER_BYTES)
    size -= size % (2 * channels)
    os.ftruncate(fd, HEADER_BYTES + size)
    os.pwrite(fd, _header(size, channels), 0)
    return size


def _header(size: int, channels: int) -> bytes:
    """Of ``size`` bytes of sound."""
    frame_bytes = 2 * channels
    size = max(0, size)
    size -= size % frame_bytes
    riff = struct.pack("<4sI4s", b"RIFF", HEADER_BYTES - 8 + size, b"WAVE")
    rates = (SAMPLE_RATE, SAMPLE_RATE * frame_bytes, frame_bytes, 16)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, *rates)
    return riff + form + struct.pack("<4sI", b"data", size)
