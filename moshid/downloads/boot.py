"""Which boot of the machine this is: what was written in an earlier one may not be on the disk."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from pathlib import Path

_LINUX = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A text that is the same until the machine starts anew. "" where none is to be had: then
    nothing from an earlier process is trusted unread. Blocking, briefly."""
    if sys.platform == "darwin":
        return _sysctl("kern.bootsessionuuid")
    try:
        return _LINUX.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    libc = ctypes.CDLL(ctypes.util.find_library("c"))
    value = ctypes.create_string_buffer(128)
    size = ctypes.c_size_t(len(value))
    failed = libc.sysctlbyname(name.encode(), value, ctypes.byref(size), None, 0)
    return "" if failed else value.value.decode("ascii", "replace")
