"""A FIFO for raw PCM, and the program on its far side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from moshid.audio.frames import FRAME_SAMPLES, to_int16
from moshid.audio.ring import Samples


class Pipe:
    """A FIFO, and the far side of it: what another process does."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def write(self, level: float, samples: int = FRAME_SAMPLES) -> None:
        """So many samples of one value."""
        data = frame(level, samples)
        assert os.write(self.fd, data) == len(data)

    def read(self) -> Samples:
        """All that is there, as int16."""
        found = b""
        try:
            while data := os.read(self.fd, 1 << 20):
                found += data
        except BlockingIOError:
            pass
        return np.frombuffer(found, "<i2").astype(np.float32)

    def hang_up(self) -> None:
        """Close the far side."""
        os.close(self.fd)
        self.fd = -1


@contextmanager
def piping(path: Path) -> Iterator[Pipe]:
    """A pipe for a test; its far side is hung up afterwards, if the test has not."""
    pipe = Pipe(path)
    yield pipe
    if pipe.fd >= 0:
        pipe.hang_up()


def frame(level: float, samples: int = FRAME_SAMPLES) -> bytes:
    """``samples`` of one value, as they go through a pipe."""
    return to_int16(np.full(samples, level, np.float32)).tobytes()
