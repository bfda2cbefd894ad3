"""What a job has fetched, counted so that SIGKILL does not lose the count. Owns one small file.

The ledger's count goes down with the bytes it vouches for; what came after the last commit is gone
with the process, and has to come again. What is in the page cache outlives the process (though not
a power cut), so that the job can say how much that was.
"""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

_COUNT = struct.Struct("<Q")

log = logging.getLogger(__name__)


class Tally:
    """One count in one file."""

    def __init__(self, path: Path) -> None:
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
        self._complained = False
        self.count = self._count  # takes its room now

    @property
    def count(self) -> int:
        """The count."""
        return self._count

    @count.setter
    def count(self, number: int) -> None:
        self._count = number
        try:
            os.pwrite(self._fd, _COUNT.pack(number), 0)
        except OSError as e:  # it is a count, and no reason to end a download
            if not self._complained:
                self._complained = True
                log.warning("a job's count of bytes cannot be kept: %s", e)

    def close(self) -> None:
        """Close; the file stays."""
        os.close(self._fd)
