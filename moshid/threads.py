"""What to do where the system gives few threads. Owns no work."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor


class Threads(ThreadPoolExecutor):
    """A thread that the system refuses is not missed while there are others: its work is queued."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            if not self._threads:
                raise


def check_room_for_process() -> None:
    """To be asked before a process is started: asyncio may watch each by a thread of its own, and
    without it leaves the process behind, and an error that nobody expects.

    Raises:
        OSError: there is no room for both.
    """
    go, begun = threading.Event(), list[threading.Thread]()
    try:
        for _ in ("the process", "its thread"):
            thread = threading.Thread(target=go.wait)
            thread.start()
            begun.append(thread)
    except RuntimeError as e:
        raise OSError(errno.EAGAIN, "the system gives no more threads") from e
    finally:
        go.set()
        for thread in begun:
            thread.join()
