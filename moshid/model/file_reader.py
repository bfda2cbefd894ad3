"""Bytes of a file into memory that the caller gives, in the file's order, by several threads.

Reads by ``preadv``: a volume that goes away is an error of the read here, where a mapped file
would be a SIGBUS. On Linux a large file may go straight from the disk into that memory
(``O_DIRECT``), past the page cache. Knows nothing of tensors; imports nothing numerical.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final

from moshid.errors import BadCheckpoint, ModelFilesGone, MoshidError
from moshid.model import pages

THREADS: Final = 4
"""So many pieces are asked of the disk at a time."""

PIECE_BYTES: Final = 8 * 1024 * 1024
"""Each piece costs turns at the interpreter's lock, which are dear on a busy machine."""

STRAIGHT_MIN_BYTES: Final = 256 * 1024
"""Less than this is not worth a read of its own past the page cache, and two of its ends."""

_SAMPLES: Final = 32
"""Pages of a file that are looked for in the page cache."""

_GONE: Final = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN})
"""What reading says when the disk, or the line to it, is no more. EIO also says that a sector is
bad: then the path is still known."""


class FileReader:
    """Reads one file; a context manager. Ask in the order of the file."""

    def __init__(
        self,
        path: Path,
        *,
        straight: bool = False,
        threads: int = THREADS,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        """``straight``: read past the page cache, where the system can and the file is not in it
        already, into memory whose address is alike the offset in the file (see ``pages``)."""
        self._path = path
        self._piece_bytes = piece_bytes
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise as_known(e, path) from e
        self._straight_fd = _open_straight(path, self._fd) if straight else None
        if sys.platform == "linux":
            rest_only = self._straight_fd is not None  # no reading ahead, for the ends
            advice = os.POSIX_FADV_RANDOM if rest_only else os.POSIX_FADV_SEQUENTIAL
            os.posix_fadvise(self._fd, 0, 0, advice)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    def __enter__(self) -> FileReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        os.close(self._fd)
        if self._straight_fd is not None:
            os.close(self._straight_fd)

    @property
    def is_straight(self) -> bool:
        """Whether memory that is alike is read past the page cache."""
        return self._straight_fd is not None

    def fill(self, view: memoryview, offset: int) -> list[Future[None]]:
        """Begin to read ``len(view)`` bytes from ``offset`` on into ``view`` (of bytes, writable).

        Each future raises what ``as_known`` makes of an error, or BadCheckpoint when the file has
        become shorter.
        """
        straight = self._can_be_straight(view, offset)
        read = self._read_straight if straight else self._read
        first = self._piece_bytes + (-offset % pages.PAGE_BYTES if straight else 0)
        cuts = [0, *range(first, len(view), self._piece_bytes), len(view)]
        return [self._pool.submit(read, view[a:b], offset + a) for a, b in pairwise(cuts)]

    def _can_be_straight(self, view: memoryview, offset: int) -> bool:
        return (
            self._straight_fd is not None
            and len(view) >= STRAIGHT_MIN_BYTES
            and (pages.address_of(view) - offset) % pages.PAGE_BYTES == 0
        )

    def _read_straight(self, view: memoryview, offset: int) -> None:
        """Whole pages past the page cache; the ends, and what cannot be had so, as ``_read``."""
        assert self._straight_fd is not None
        at = -offset % pages.PAGE_BYTES
        self._read(view[:at], offset)
        whole = len(view) - (offset + len(view)) % pages.PAGE_BYTES
        while at < whole and (offset + at) % pages.PAGE_BYTES == 0:
            try:
                count = os.preadv(self._straight_fd, [view[at:whole]], offset + at)
            except OSError as e:
                if e.errno != errno.EINVAL:  # a file system with larger blocks
                    raise as_known(e, self._path) from e
                break
            if count == 0:
                break
            at += count
        self._read(view[at:], offset + at)

    def _read(self, view: memoryview, offset: int) -> None:
        while len(view):
            try:
                count = os.preadv(self._fd, [view], offset)
            except OSError as e:
                raise as_known(e, self._path) from e
            if count == 0:
                raise BadCheckpoint(
                    f"{self._path.name} became shorter while it was read",
                    hint="Something else writes to it: let it finish, then load again.",
                )
            view, offset = view[count:], offset + count


def _open_straight(path: Path, fd: int) -> int | None:
    """``path`` past the page cache; None where that is impossible, or a detour. ``fd``: the same
    file."""
    if not hasattr(os, "O_DIRECT") or _is_cached(fd):
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return None


def _is_cached(fd: int) -> bool:
    """Whether most of the file is in the page cache, by a sample; False where nobody knows."""
    if sys.platform != "linux":
        return False
    size_bytes = os.fstat(fd).st_size
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # what is missing is not read ahead
    byte, found = bytearray(1), 0
    for _ in range(_SAMPLES):  # anywhere, since looking for a page may bring it
        with contextlib.suppress(OSError):  # EAGAIN: it is not there
            found += os.preadv(fd, [byte], random.randrange(size_bytes or 1), os.RWF_NOWAIT)
    return 2 * found >= _SAMPLES


def as_known(error: OSError, path: Path) -> MoshidError:
    """``error`` of reading ``path`` as what a user can be told."""
    reason = error.strerror or str(error)
    if error.errno == errno.EIO and _is_there(path):
        return BadCheckpoint(
            f"{path} cannot be read, though its volume is there: {reason}",
            hint="A part of the disk is bad. Fetch what was there again: "
            "moshi-client verify MODEL --repair",
        )
    if error.errno in _GONE:
        return ModelFilesGone(f"{path} can no longer be read: {reason}")
    return BadCheckpoint(f"{path} cannot be read: {reason}")


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:  # a volume that is gone answers so, too
        return False
    return True
