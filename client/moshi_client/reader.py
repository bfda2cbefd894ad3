"""Whether stdout is still read: who follows events ends when the reader goes, not at the next one
of them, which may never come. Owns the waiting for both."""

from __future__ import annotations

import os
import select
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_GONE = select.POLLERR | select.POLLHUP
"""Linux says the one of a pipe whose reader has gone, macOS the other, and only when asked."""


def wait(out: TextIO, fd: int | None = None, timeout_s: float | None = None) -> None:
    """Wait until ``fd`` can be read, or ``timeout_s`` seconds are over.

    Raises:
        BrokenPipeError: ``out`` is a pipe, and whoever read it has gone.
    """
    poll, pipe = select.poll(), _pipe_of(out)
    if pipe is not None:
        poll.register(pipe, _GONE)
    if fd is not None:
        poll.register(fd, select.POLLIN)
    for ready, what in poll.poll(None if timeout_s is None else timeout_s * 1000):
        if ready == pipe and what & _GONE:
            raise BrokenPipeError


def _pipe_of(out: TextIO) -> int | None:
    try:
        fd = out.fileno()
        return fd if stat.S_ISFIFO(os.fstat(fd).st_mode) else None
    except (OSError, ValueError):  # no file, or closed
        return None
