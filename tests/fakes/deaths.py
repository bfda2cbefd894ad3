"""Deaths of child processes at moments that a test chooses."""

from __future__ import annotations

import contextlib
import os
import signal

import psutil


def kill_unnoticed(pid: int) -> None:
    """SIGKILL it; returns when it is dead, before this thread's event loop can have noticed."""
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1:
            pass
