"""The system's pages of memory: their size, where memory stands in them, and large ones on Linux.

New memory costs a fault a page: of 4 KiB, half a second a gigabyte here, more than the disk takes
for the bytes. Linux gives pages of 2 MiB to who asks; macOS has pages of 16 KiB, and none larger.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable
from typing import Final

PAGE_BYTES: Final = mmap.PAGESIZE
"""Also the unit in which a disk is read past the page cache."""

LARGE_BYTES: Final = 2 * 1024 * 1024

_MADV_HUGEPAGE: Final = 14


def address_of(view: memoryview) -> int:
    """Where writable memory begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def want_large(view: memoryview) -> None:
    """Have the whole large pages within ``view`` be such, where the system has some to give.

    Of nothing else: a large page is there as a whole, also the part that nobody uses.
    """
    if (advise := _madvise()) is None or not len(view):
        return
    begin = address_of(view)
    first = -(-begin // LARGE_BYTES) * LARGE_BYTES
    size_bytes = (begin + len(view)) // LARGE_BYTES * LARGE_BYTES - first
    if size_bytes > 0:
        advise(first, size_bytes, _MADV_HUGEPAGE)  # a wish: an error changes nothing


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    advise.restype = ctypes.c_int
    known: Callable[[int, int, int], int] = advise
    return known
