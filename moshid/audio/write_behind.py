"""Writes a sound file in a thread, so that a disk that stands still holds up no frame. Owns the
thread and what waits for it."""

from __future__ import annotations

import queue
import threading
from typing import Final

import numpy as np

from moshid.audio.file_formats import Writer
from moshid.audio.ring import Samples

PIECES_MAX: Final = 750
"""A minute, a frame a piece; then whoever writes waits, as for the disk itself."""


class WriteBehind:
    """A writer that hands all to another. What the system says is raised with the next piece, or at
    the end; from then on nothing more is written."""

    def __init__(self, writer: Writer, pieces_max: int = PIECES_MAX) -> None:
        self._writer = writer
        self._error: OSError | None = None
        self._told = False
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

    def close(self) -> None:
        """Wait until all is written, and finish the file. Safe to call twice.

        Raises:
            OSError: what the system said of a piece or the end, if that was not raised yet.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
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
