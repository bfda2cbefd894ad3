"""What the speaker played, by its position on the microphone's time line. Owns that memory.

The sink says where each piece is really played, silence, cuts and gaps included, when it hands it
to the device; so a frame that was captured between two positions finds exactly what the device
took between them. What is in the air, and in buffers beyond the device's callback, is a delay for
the echo canceller to find.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import numpy as np

from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Samples

CAPACITY: Final = 8 * SAMPLE_RATE
"""More than a device's ring ahead of now and the longest echo behind it."""

Tap = Callable[[int, Samples], None]
"""Takes a position, and the sound (float32 [n]) that is played from there on."""


@runtime_checkable
class Tapped(Protocol):
    """A sink that tells what it plays, and when, on its source's time line."""

    tap: Tap | None


class Reference:
    """The last seconds of what was played, and what is about to be; silence elsewhere."""

    def __init__(self) -> None:
        self._data: Samples = np.zeros(CAPACITY, dtype=np.float32)
        self._end = 0

    def write(self, position: int, pcm: Samples) -> None:
        """``pcm`` (float32 [n]) is played from ``position`` on."""
        pcm = pcm[-CAPACITY:]
        self._silence(position)
        self._put(position, pcm)
        self._end = position + len(pcm)

    def read(self, end: int, samples: int) -> Samples:
        """What was played in the ``samples`` before ``end``: float32 [samples]."""
        out: Samples = np.zeros(samples, dtype=np.float32)
        first = max(end - samples, self._end - CAPACITY)
        last = min(end, self._end)
        if last > first:
            at = np.arange(first, last) % CAPACITY
            out[first - (end - samples) : last - (end - samples)] = self._data[at]
        return out

    def _silence(self, position: int) -> None:
        gap = min(position - self._end, CAPACITY)
        if gap > 0:
            self._put(position - gap, np.zeros(gap, dtype=np.float32))

    def _put(self, position: int, pcm: Samples) -> None:
        self._data[np.arange(position, position + len(pcm)) % CAPACITY] = pcm
