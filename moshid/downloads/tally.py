"""What a job has fetched, counted so that SIGKILL does not lose the count. Owns one small file.

The ledger's count goes down with the bytes it vouches for; what came after the last commit is gone
with the process, and has to come again. What is in the page cache outlives the process (though not
a power cut), so that the job can say how much that was. A thread writes it: a disk that stands
still holds up nobody who counts.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

_COUNT = struct.Struct("<Q")

log = logging.getLogger(__name__)


def _now(write: Callable[[], None]) -> None:
    write()


class Tally:
    """One count in one file, written a moment after it is set; the latest stands for all before.
    ``soon``: lets a write be done, one after the other."""

    def __init__(self, path: Path, soon: Callable[[Callable[[], None]], object] = _now) -> None:
        """Open or make the file. Blocking, briefly.

        Raises:
            OSError: there can be no such file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            content = os.pread(self._fd, _COUNT.size, 0)
        except BaseException:
            os.close(self._fd)
            raise
        self._count: int = _COUNT.unpack(content)[0] if len(content) == _COUNT.size else 0
        self._complained = self._due = False
        self._soon = soon
        self._write()  # takes its room now

    @property
    def count(self) -> int:
        """The count."""
        return self._count

    @count.setter
    def count(self, number: int) -> None:
        self._count = number
        if not self._due:
            self._due = True
            self._soon(self._write)

    def close(self) -> None:
        """Close, behind the last write; the file stays."""
        os.close(self._fd)

    def _write(self) -> None:
        self._due = False  # before it looks: what is set later is written again
        try:
            os.pwrite(self._fd, _COUNT.pack(self._count), 0)
        except OSError as e:  # it is a count, and no reason to end a download
            if not self._complained:
                self._complained = True
                log.warning("a job's count of bytes cannot be kept: %s", e)
