"""A partial file that somebody deleted while it was open: its bytes under its name again.

They are still there as long as the file is open, and a line is slow.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from moshid.downloads.disk import Partial
from moshid.downloads.volume import free_bytes_at

COPY_BYTES: Final = 4 << 20

log = logging.getLogger(__name__)


def put_back(partial: Partial) -> bool:
    """Copy what an open partial file holds to where its name points to nothing; whether that went.
    Whoever opens it finds another file than before, and reads it before believing it. Blocking."""
    path = partial.path
    new = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with new.open("wb") as copy:
                stretches = list(written(partial.fd, partial.size))
                if sum(stop - start for start, stop in stretches) > free_bytes_at(path.parent):
                    raise OSError(errno.ENOSPC, "there is no room for it twice")
                for start, stop in stretches:
                    _copy(partial.fd, copy.fileno(), start, stop)
                copy.truncate(partial.size)
            os.link(new, path)  # unless there is a file again: somebody else's
        finally:
            new.unlink(missing_ok=True)
    except OSError as e:
        log.warning("what had come of it is lost: %s", e)
        return False
    return True


def written(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The stretches of an open file that were written, as far as the file system tells."""
    stop = 0
    with suppress(OSError):
        while stop < size:
            start = os.lseek(fd, stop, os.SEEK_DATA)
            stop = min(size, os.lseek(fd, start, os.SEEK_HOLE))
            yield start, stop


def _copy(from_fd: int, to_fd: int, at: int, stop: int) -> None:
    while at < stop:
        piece = os.pread(from_fd, min(COPY_BYTES, stop - at), at)
        if not piece:
            raise OSError(errno.EIO, "the file is shorter than it was")
        at += os.pwrite(to_fd, piece, at)
