"""Advice to the system about a file's pages in memory. Blocking; changes no content.

Only Linux can be told; elsewhere these do nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

_SYNC_FILE_RANGE_WRITE: Final = 2


def _find() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    found = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if found is None:
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    found.restype = ctypes.c_int
    range_call: Callable[[int, int, int, int], int] = found
    return range_call


_sync_file_range: Final = _find()


def begin_writing(fd: int, start: int, stop: int) -> None:
    """Begin to write a range to the disk now, so that the next sync, which alone promises anything,
    has little left to wait for."""
    if _sync_file_range is not None:
        _sync_file_range(fd, start, stop - start, _SYNC_FILE_RANGE_WRITE)


def forget(fd: int, start: int, stop: int) -> None:
    """Let the memory that holds a range of a synced file be used for something better: a download
    of 15 GB is not to push everything else out."""
    if sys.platform == "linux":
        os.posix_fadvise(fd, start, stop - start, os.POSIX_FADV_DONTNEED)
