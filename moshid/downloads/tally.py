"""What a job has fetched, counted so that SIGKILL does not lose the count. Owns one small file.

The ledger's count goes down with the bytes it vouches for; what came after the last commit is gone
with the process, and has to come again. A shared memory page outlives the process (though not a
power cut), so that the job can say how much that was.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

_COUNT = struct.Struct("<Q")


class Tally:
    """One count in one mapped file."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Blocking, briefly."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if (
                os.fstat(fd).st_size != _COUNT.size
            ):  # by writing: a hole in a full volume is a SIGBUS
                os.pwrite(fd, _COUNT.pack(0), 0)
                os.ftruncate(fd, _COUNT.size)
            self._page = mmap.mmap(fd, _COUNT.size)
        finally:
            os.close(fd)

    @property
    def count(self) -> int:
        """The count."""
        number: int = _COUNT.unpack(self._page[: _COUNT.size])[0]
        return number

    @count.setter
    def count(self, number: int) -> None:
        self._page[: _COUNT.size] = _COUNT.pack(number)

    def close(self) -> None:
        """Close; the file stays."""
        self._page.close()
