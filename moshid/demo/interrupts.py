"""Signals that end a program which has processes of its own. Owns that none of these outlives it:
what ends the program comes between two steps, never in the middle of a process's start.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, ``kill``, and a terminal that is closed."""


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """``kill`` and a closed terminal unwind the program, as Ctrl-C does anyway.

    Raises:
        SystemExit: one of them came; the code is 128 and its number, as a shell tells it.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {
        number: signal.signal(number, leave)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL  # nohup's is to stay
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """What ends the program waits for the end of this block: within it a process is started *and*
    kept where it is looked for at the end. Handlers are the main thread's, and so are interrupts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in ENDING
        if callable(signal.getsignal(number))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in came:
        signal.raise_signal(late)
