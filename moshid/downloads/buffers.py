"""Memory for what has landed and waits to be hashed: page-aligned, and only so much of it.

Shared by all transfers. A buffer is taken and given back from any thread.
"""

from __future__ import annotations

import mmap
import sys
import threading
from contextlib import suppress
from typing import Final

MIB: Final = 1 << 20

BLOCK_BYTES: Final = max(4096, mmap.PAGESIZE)
"""What goes past the page cache begins and ends at multiples of this, in memory and on disk."""

BUFFER_BYTES: Final = 2 * MIB
"""A large page, where there are such."""

HELD_BYTES: Final = 56 * MIB


class Buffers:
    """Up to ``most_bytes`` in buffers; their memory is kept until nobody has use for any."""

    def __init__(self, most_bytes: int = HELD_BYTES) -> None:
        self._count = self._left = most_bytes // BUFFER_BYTES
        self._free: list[memoryview] = []
        self._changed = threading.Condition()

    def take(self, wait_s: float = 0.0) -> memoryview | None:
        """A buffer to be given back; None: all are in use, and were for so long."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._left > 0, wait_s):
                return None
            self._left -= 1
            if self._free:
                return self._free.pop()
        return new_buffer()

    def give(self, buffer: memoryview) -> None:
        """Have a buffer back."""
        with self._changed:
            self._left += 1
            self._free.append(buffer)
            self._changed.notify()

    def trim(self) -> None:
        """Leave the memory to the system, if no buffer is in use."""
        with self._changed:
            if self._left == self._count:
                self._free.clear()


def new_buffer() -> memoryview:
    """A buffer of nobody's."""
    memory = mmap.mmap(-1, BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux":
        with suppress(OSError):  # a kernel without large pages: small ones do
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
