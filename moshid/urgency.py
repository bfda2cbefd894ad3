"""Asks the system to serve this process first while a talk runs. Owns how each system is asked.

Linux: the lowest real-time priority (SCHED_RR) for each thread, where RLIMIT_RTPRIO or a capability
allows it (sound servers' own threads stand above); else nice -11, where that is allowed.
The kernel's limit (95 % of a second) keeps a runaway from taking the machine. macOS: the highest
quality of service for the calling thread, and an activity that keeps App Nap, sleep and coalesced
timers away. What is not allowed is left out: a talk goes on without it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

NICE: Final = -11
"""As PulseAudio and PipeWire have it."""

REAL_TIME: Final = 1

QOS_CLASS_DEFAULT: Final = 0x15
QOS_CLASS_USER_INTERACTIVE: Final = 0x21
ACTIVITY: Final = 0x00FFFFFF | 0xFF00000000
"""NSActivityUserInitiated and NSActivityLatencyCritical."""


class Urgency:
    """This process's standing with the system. Not for several threads at once."""

    def __init__(self) -> None:
        self._lower: list[Callable[[], None]] = []

    @property
    def raised(self) -> bool:
        """Whether the system granted anything."""
        return bool(self._lower)

    def raise_(self) -> None:
        """Be served first, as far as the system allows it. Safe to call twice."""
        if self.raised:
            return
        if sys.platform == "darwin":
            self._ask(_quality_of_service)
            self._ask(_activity)
        elif not self._ask(_real_time):
            self._ask(_nice)

    def _ask(self, ask: Callable[[], Callable[[], None]]) -> bool:
        try:
            self._lower.append(ask())
        except (OSError, AttributeError) as e:
            log.info("a talk runs without %s: %s", ask.__name__.strip("_"), e)
            return False
        return True

    def lower(self) -> None:
        """As before ``raise_``. Safe to call twice."""
        while self._lower:
            self._lower.pop()()


def _real_time() -> Callable[[], None]:
    if sys.platform != "linux":
        raise OSError("real time for a thread")
    _each_thread(lambda t: os.sched_setscheduler(t, os.SCHED_RR, os.sched_param(REAL_TIME)))
    return lambda: _each_thread(
        lambda t: os.sched_setscheduler(t, os.SCHED_OTHER, os.sched_param(0))
    )


def _nice() -> Callable[[], None]:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    _each_thread(lambda t: os.setpriority(os.PRIO_PROCESS, t, NICE))
    return lambda: _each_thread(lambda t: os.setpriority(os.PRIO_PROCESS, t, before))


def _each_thread(ask: Callable[[int], None]) -> None:
    """On Linux each thread has its own standing; those started later inherit it. The sound
    server's, which has a better one, keeps it."""
    if sys.platform != "linux":
        return
    for thread in Path("/proc/self/task").iterdir():
        try:
            if os.sched_getscheduler(int(thread.name)) != os.SCHED_FIFO:
                ask(int(thread.name))
        except ProcessLookupError:
            continue  # it ended meanwhile


def _quality_of_service() -> Callable[[], None]:
    """Of the calling thread, which has to be the one that works (not yet seen on a Mac)."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask(quality: int) -> None:
        if error := libc.pthread_set_qos_class_self_np(quality, 0):
            raise OSError(error, os.strerror(error))

    ask(QOS_CLASS_USER_INTERACTIVE)
    return lambda: ask(QOS_CLASS_DEFAULT)


def _activity() -> Callable[[], None]:
    """NSProcessInfo's beginActivityWithOptions:reason: (not yet seen on a Mac)."""
    ctypes.CDLL("/System/Library/Frameworks/Foundation.framework/Foundation")
    objc = ctypes.CDLL(ctypes.util.find_library("objc") or "/usr/lib/libobjc.A.dylib")
    objc.objc_getClass.restype = objc.sel_registerName.restype = ctypes.c_void_p

    def send(target: Any, selector: bytes, *arguments: Any) -> Any:
        types: list[Any] = [ctypes.c_void_p, ctypes.c_void_p, *(type(a) for a in arguments)]
        call = ctypes.CFUNCTYPE(ctypes.c_void_p, *types)(("objc_msgSend", objc))
        return call(target, objc.sel_registerName(selector), *arguments)

    info = send(objc.objc_getClass(b"NSProcessInfo"), b"processInfo")
    text = send(
        objc.objc_getClass(b"NSString"), b"stringWithUTF8String:", ctypes.c_char_p(b"a talk runs")
    )
    selector = b"beginActivityWithOptions:reason:"
    activity = send(info, selector, ctypes.c_uint64(ACTIVITY), ctypes.c_void_p(text))
    kept = send(activity, b"retain")

    def end() -> None:
        send(info, b"endActivity:", ctypes.c_void_p(kept))
        send(kept, b"release")

    return end
