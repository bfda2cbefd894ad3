"""Writes a sound file in a thread, so that a disk that stands still holds up no frame. Owns the
thread and what waits for it."""

from __future__ import annotations

import errno
import queue
import threading
from contextlib import suppress
from typing import Final

import numpy as np

from moshid.audio.file_formats import Writer
from moshid.audio.ring import Samples

PIECES_MAX: Final = 750
"""A minute, a frame a piece; then whoever writes waits, as for the disk itself."""

CLOSE_S_MAX: Final = 1.5
"""The daemon waits 4 s for the end of a talk, in which a recording may be waited for, too."""


class WriteBehind:
    """A writer that hands all to another. What the system says is raised with the next piece, or at
    the end; from then on nothing more is written."""

    def __init__(self, writer: Writer, pieces_max: int = PIECES_MAX) -> None:
        self._writer = writer
        self._error: OSError | None = None
        self._told = self._left = False
        self._queue: queue.Queue[Samples | None] = queue.Queue(pieces_max)
        self._thread = threading.Thread(target=self._write_all, name="out-file", daemon=True)
        self._thread.start()

    def write(self, pcm: Samples) -> None:
        """Append float32 [n], which is copied.

        Raises:
            OSError: what the system said of an earlier piece.
        """
        self._tell()
        self._queue.put(np.array(pcm, dtype=np.float32))

    def close(self, patience_s: float = CLOSE_S_MAX) -> None:
        """Wait until all is written, and finish the file; a disk that hangs is left, with what it
        has not taken. Safe to call twice.

        Raises:
            OSError: what the system said of a piece or the end, or that the disk hangs, if that was
                not raised yet.
        """
        if self._thread.is_alive() and not self._left:
            with suppress(queue.Full):
                self._queue.put(None, timeout=patience_s)
                self._thread.join(patience_s)
            self._left = self._thread.is_alive()
            if self._left and not self._told:
                self._error = OSError(errno.ETIMEDOUT, "the disk stands still, and its end is lost")
        if not self._told:
            self._tell()

    def _tell(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _write_all(self) -> None:
        """The thread. After a fault it only throws away, so that nobody waits for it."""
        while (pcm := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._writer.write(pcm)
            except OSError as e:
                self._error = e
        try:
            self._writer.close()
        except OSError as e:
            self._error = self._error or e
