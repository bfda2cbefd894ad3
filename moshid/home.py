"""The daemon's home folder: made private, locked by flock for life. Owns single instance."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from moshid.errors import AlreadyRunning, HomeUnusable
from moshid.settings import MOVE_AWAY, Settings


def prepare(settings: Settings) -> None:
    """Make the home folder, and the socket's, private to this user.

    Raises:
        HomeUnusable: it cannot be made or written, or belongs to somebody else.
    """
    try:
        folders = (settings.home, settings.transcripts, settings.recordings, settings.run_dir)
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = settings.home.stat()
        if facts.st_uid != os.getuid():
            raise HomeUnusable(f"{settings.home} belongs to another user (uid {facts.st_uid})")
        if facts.st_mode & 0o077:
            settings.home.chmod(0o700)
        settings.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as e:
        raise HomeUnusable(f"{e.filename} cannot be used: it is no folder", hint=MOVE_AWAY) from e
    except OSError as e:
        raise HomeUnusable(f"{settings.home} cannot be used: {e}") from e
    if not os.access(settings.home, os.W_OK | os.X_OK):
        raise HomeUnusable(f"{settings.home} cannot be written")


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Hold ``moshid.lock`` with our process id in it, for as long as the block runs.

    The kernel drops the lock when the process ends, however it ends; the file stays.

    Raises:
        AlreadyRunning: another daemon holds it.
        HomeUnusable: it cannot be opened, or is no file.
    """
    try:
        fd = os.open(settings.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        hint = MOVE_AWAY if isinstance(e, IsADirectoryError) else None
        raise HomeUnusable(f"{settings.lock} cannot be used: {e.strerror}", hint=hint) from e
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise HomeUnusable(f"{settings.lock} cannot be used: it is no file", hint=MOVE_AWAY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            owner = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise AlreadyRunning(
                f"a daemon (process {owner}) is running already in {settings.home}", pid=owner
            ) from e
        _write_pid(settings, fd)
        yield
    finally:
        os.close(fd)


def _write_pid(settings: Settings, fd: int) -> None:
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as e:
        hint = "Free some space on its volume." if e.errno == errno.ENOSPC else None
        raise HomeUnusable(f"{settings.lock} cannot be written: {e.strerror}", hint=hint) from e
