"""How a worker process is started. Owns its arguments, its environment and what it inherits."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

from moshid import threads, worker_log
from moshid.settings import Settings

ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}
"""What numpy multiplies in a worker is small: a second thread gains nothing, and waits for the next
product by spinning, on a core that another worker needs."""


async def execute(module: str, settings: Settings, fd: int) -> asyncio.subprocess.Process:
    """``python -m module fd log_level``, its standard error in a pipe.

    Raises:
        OSError: the system gives no more processes, threads or descriptors.
    """
    threads.check_room_for_process()
    # The mask is inherited: a Ctrl-C in the terminal would reach it before it ignores that itself.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            str(fd),
            settings.log_level,
            pass_fds=(fd,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=worker_log.LINE_BYTES_MAX,
            env=ONE_THREAD | os.environ,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
