"""What of a file was really written: its bytes up to the next hole or run of zeros.

Other programs write out of order into files of full size; what they never came to reads as zeros.
Everything here is blocking and changes nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

READ_BYTES: Final = 4 << 20
ZEROS_MIN: Final = 4096
"""So many zeros in a row were not written, as far as anybody can know: ext4 fills gaps of up to
32 KiB with zeros instead of keeping them as holes."""

LAST_ZEROS_MIN: Final = 16
"""So many at the end of a stretch neither."""

_ZEROS: Final = bytes(ZEROS_MIN)


def open_source(path: Path) -> int:
    """A descriptor to read somebody's file by. It waits for nothing: the path may be a FIFO."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def read(fd: int, start: int, stop: int, *, zeros: bool = False) -> bytes:
    """Bytes of an open file from ``start`` on, up to ``stop`` or as far as one read goes; empty
    where nothing was written. ``zeros``: holes and runs of zeros are content, too."""
    most = min(READ_BYTES, stop - start)
    if zeros:
        return os.pread(fd, most, start)
    end = _written_until(fd, start, start + most + ZEROS_MIN)
    found = os.pread(fd, end - start, start)
    run = found.find(_ZEROS)
    if run >= 0:
        return found[:run]
    found, goes_on = found[:most], len(found) > most or _reaches(fd, start + len(found))
    written = found.rstrip(b"\0")
    few = 0 < len(written) > len(found) - LAST_ZEROS_MIN
    return found if few and goes_on else written


def _reaches(fd: int, at: int) -> bool:
    """Whether the file ends there, rather than goes on with what was not written."""
    return os.fstat(fd).st_size <= at


def _written_until(fd: int, start: int, stop: int) -> int:
    """Where the data that begins at ``start`` ends; ``start`` itself if there is a hole."""
    try:
        if os.lseek(fd, start, os.SEEK_DATA) != start:
            return start
        return min(stop, os.lseek(fd, start, os.SEEK_HOLE))
    except OSError as e:
        if e.errno == errno.ENXIO:  # at or beyond the end
            return start
        if e.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # nobody can tell
            return stop
        raise
