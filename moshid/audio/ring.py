"""A preallocated ring of samples between two threads. Owns the copying; knows no device.

One producer, one consumer. Both positions only grow and each has one writer, so under the GIL no
lock is needed: a reader sees either the old or the new position, never too much.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""Shape [n], float32, full scale at 1.0."""


class Ring:
    """``capacity`` float32 samples. What does not fit, or is not there, is counted, never waited
    for."""

    def __init__(self, capacity: int) -> None:
        self._data: Samples = np.zeros(capacity, dtype=np.float32)
        self._capacity = capacity
        self.written = 0
        """Samples written since the start; the producer's."""
        self.read_total = 0
        """Samples read since the start; the consumer's."""
        self.overrun = 0
        """Samples refused because the ring was full; the producer's."""
        self.underrun = 0
        """Samples missing when they were wanted; the consumer's."""

    def __len__(self) -> int:
        return self.written - self.read_total

    @property
    def capacity(self) -> int:
        """Samples it can hold."""
        return self._capacity

    def write(self, samples: Samples) -> int:
        """Take as many of ``samples`` (float32 [n]) as fit; returns how many."""
        n = len(samples)
        room = self._capacity - (self.written - self.read_total)
        if n > room:
            self.overrun += n - room
            n = room
        start = self.written % self._capacity
        first = min(n, self._capacity - start)
        self._data[start : start + first] = samples[:first]
        if first < n:
            self._data[: n - first] = samples[first:n]
        self.written += n
        return n

    def read_into(self, out: Samples) -> int:
        """Fill ``out`` (float32 [n]); what is missing becomes silence. Returns what was there."""
        wanted = len(out)
        n = min(wanted, self.written - self.read_total)
        start = self.read_total % self._capacity
        first = min(n, self._capacity - start)
        out[:first] = self._data[start : start + first]
        if first < n:
            out[first:n] = self._data[: n - first]
        if n < wanted:
            out[n:] = 0.0
            self.underrun += wanted - n
        self.read_total += n
        return n

    def peek(self, n: int) -> Samples | None:
        """What ``take`` would give, which stays."""
        if len(self) < n:
            return None
        start = self.read_total % self._capacity
        first = self._data[start : start + n]
        return np.concatenate((first, self._data[: n - len(first)]))

    def take(self, n: int) -> Samples | None:
        """``n`` samples as a new array, or None while there are fewer; counts no underrun."""
        if len(self) < n:
            return None
        out: Samples = np.empty(n, dtype=np.float32)
        self.read_into(out)
        return out
