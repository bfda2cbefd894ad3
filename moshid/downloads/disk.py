"""Threads for blocking disk work, and partial files. Owns the order write, sync; never a ledger.

A partial file is flocked, so that two homes cannot write the same one, and as large as the whole
file from the start, so that there is room for it.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from moshid.downloads.buffers import BLOCK_BYTES
from moshid.errors import PartialLocked
from moshid.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

_F_PREALLOCATE: Final = 42
_F_ALLOCATEALL: Final = 4
_F_PEOFPOSMODE: Final = 3
_BUFFERS_MAX: Final = 512
THREAD_NICENESS: Final = 10
_OPEN_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""No link is followed: it may be somebody else's, to a file that is to be overwritten."""

_NOT_DIRECT: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)
"""So a file system says that it cannot write past the cache, or not from there."""

_DIRECT_FLAGS: Final = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | getattr(os, "O_DIRECT", 0)


class DiskPool:
    """Runs blocking work in threads; one is there from the beginning. A cancelled caller waits for
    its thread, which holds buffers and a descriptor that must not be closed under it."""

    def __init__(
        self, threads: int | None = None, *, name: str = "disk", modest: bool = True
    ) -> None:
        """``modest``: on Linux, where a thread has a niceness of its own, let others go first: the
        event loop, which answers clients, and the whole-file hash, which nothing can overtake."""
        self.given = 0
        """How often it was given something to do."""
        self._pool = Threads(
            threads or min(8, (os.cpu_count() or 2) + 2),
            thread_name_prefix=name,
            initializer=_be_modest if modest else None,
        )
        self._pool.submit(int)

    def begin(self, work: Callable[[], None]) -> None:
        """``work()`` in a thread; nobody waits for it."""
        self._pool.submit(work)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``work(*args)`` in a thread."""
        loop = asyncio.get_running_loop()
        self.given += 1
        doing, waiter = self._pool.submit(work, *args, **kwargs), loop.create_future()
        cancelled: asyncio.CancelledError | None = None

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        # By hand: asyncio's own futures and waits take three turns of a busy loop more.
        doing.add_done_callback(lambda _done: loop.call_soon_threadsafe(wake))
        while not doing.done():
            try:
                await waiter
            except asyncio.CancelledError as e:
                cancelled, waiter = e, loop.create_future()
        if cancelled is not None:
            doing.exception()
            raise cancelled
        return doing.result()

    def close(self) -> None:
        """Wait for what runs, and end the threads."""
        self._pool.shutdown(wait=True)


class Partial:
    """An open, locked, preallocated partial file. All methods are blocking and thread-safe."""

    def __init__(self, path: Path, fd: int, size: int, created: bool) -> None:
        self.path = path
        self.fd = fd
        self.size = size
        self.created = created
        """Nothing is in it yet: whatever a ledger says of it is not so."""
        self._direct_fd = _open_direct(path, fd)

    @classmethod
    def open(cls, path: Path, size: int) -> Partial:
        """Open or make the partial file, lock it, reserve its room.

        Raises:
            PartialLocked: another process, or another job, holds it.
            OSError: no room, or the folder cannot be used.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            fd = os.open(path, _OPEN_FLAGS, 0o666)
            try:
                _lock(fd, path)
                if not _is_at(fd, path):
                    os.close(fd)
                    continue
                old_size = os.fstat(fd).st_size
                _reserve(fd, old_size, size)
                if old_size != size:  # or a power cut might take the name, and all bytes with it
                    sync_folder(path.parent)
                    sync_folder(path.parent.parent)
                return cls(path, fd, size, created=old_size != size)
            except BaseException:
                os.close(fd)
                raise

    @property
    def skips_cache(self) -> bool:
        """Whether ``write_through`` can do what it is for."""
        return self._direct_fd is not None

    def is_all_there(self) -> bool:
        """Whether the file still has its size: nobody cut it off meanwhile."""
        return os.fstat(self.fd).st_size == self.size

    def is_in_place(self) -> bool:
        """Whether the file is still the one of its name: nobody deleted or replaced it."""
        return _is_at(self.fd, self.path)

    def identity(self) -> tuple[int, int]:
        """Device and inode: which file this is."""
        stat = os.fstat(self.fd)
        return stat.st_dev, stat.st_ino

    def write(
        self, offset: int, buffers: Sequence[bytes | memoryview], fd: int | None = None
    ) -> int:
        """Write all buffers, one after the other, at ``offset``; returns how many bytes. ``fd``: by
        this descriptor, as long as the file system goes along."""
        queue = [memoryview(b) for b in buffers]
        at, fd = offset, self.fd if fd is None else fd
        while queue:
            try:
                written = os.pwritev(fd, queue[:_BUFFERS_MAX], at)
            except OSError as e:
                if fd == self.fd or e.errno not in _NOT_DIRECT:
                    raise
                fd = self.fd
                continue
            at += written
            while queue and written >= len(queue[0]):
                written -= len(queue.pop(0))
            if written:
                queue[0] = queue[0][written:]
        return at - offset

    def write_through(self, offset: int, content: memoryview) -> int:
        """Write whole blocks past the page cache, if the file system can: what nobody reads again
        need not be copied there. In memory, the content has to begin as far after a multiple of
        ``BLOCK_BYTES`` as in the file."""
        if self._direct_fd is None:
            return self.write(offset, [content])
        head = min(-offset % BLOCK_BYTES, len(content))
        whole = (len(content) - head) // BLOCK_BYTES * BLOCK_BYTES
        blocks, tail = content[head : head + whole], content[head + whole :]
        written = self.write(offset, [content[:head]]) if head else 0
        written += self.write(offset + written, [blocks], self._direct_fd) if blocks else 0
        return written + (self.write(offset + written, [tail]) if tail else 0)

    def sync(self) -> bool:
        """Return when all that was written survives a power cut; whether it ``is_in_place``.

        Raises:
            OSError: the disk cannot keep it; nobody knows how much of it is lost.
        """
        sync(self.fd)
        return self.is_in_place()

    def check_place(self) -> None:
        """Raises FileNotFoundError: see ``is_in_place``."""
        if not self.is_in_place():
            raise FileNotFoundError(errno.ENOENT, "it was deleted meanwhile", str(self.path))

    def stat(self) -> tuple[int, int, int]:
        """Size, mtime in ns and inode, as ``stat_of`` has them."""
        stat = os.fstat(self.fd)
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    def close(self) -> None:
        """Close, and unlock. Once only."""
        try:
            if self._direct_fd is not None:
                os.close(self._direct_fd)
        finally:
            os.close(self.fd)

    def delete(self) -> None:
        """Remove the file, then unlock: nobody can lock a file that is about to go."""
        self.path.unlink(missing_ok=True)
        self.close()


def _be_modest() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), THREAD_NICENESS)


def sync(fd: int) -> None:
    """fdatasync; on macOS F_FULLFSYNC, since fsync there stops at the drive's cache (network
    volumes have no more than fsync)."""
    if sys.platform == "darwin":
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError as e:
            if e.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
            os.fsync(fd)
    else:
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        raise PartialLocked(f"another moshid is writing {path.name}") from e


def _is_at(fd: int, path: Path) -> bool:
    """Whether the locked file still has its name: the one who held the lock may have moved it."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def _open_direct(path: Path, fd: int) -> int | None:
    """Another descriptor of the open file, for writing past the page cache; None: the system or
    the file system has no such thing."""
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        direct_fd = os.open(path, _DIRECT_FLAGS)
    except OSError:
        return None
    if os.path.samestat(os.fstat(fd), os.fstat(direct_fd)):
        return direct_fd
    os.close(direct_fd)
    return None


def _reserve(fd: int, old_size: int, size: int) -> None:
    if size == 0:
        os.ftruncate(fd, 0)
        return
    try:
        if sys.platform == "darwin":
            if old_size < size:
                wanted = struct.pack(
                    "@Iiqqq", _F_ALLOCATEALL, _F_PEOFPOSMODE, 0, size - old_size, 0
                )
                fcntl.fcntl(fd, _F_PREALLOCATE, wanted)
        else:
            os.posix_fallocate(fd, 0, size)
    except OSError as e:
        if e.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            os.ftruncate(fd, old_size)
            raise
    if os.fstat(fd).st_size != size:
        os.ftruncate(fd, size)
