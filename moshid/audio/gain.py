"""A gain that changes without a click: by a ramp, from a given sample on. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Samples

RAMP_SAMPLES: Final = SAMPLE_RATE // 100
"""A gain goes from 0 to 1 in 10 ms: short beside a frame, long enough not to click."""


class Gain:
    """A factor on a stream of samples that changes by a ramp, from a given sample on."""

    def __init__(self, factor: float) -> None:
        self._now = factor
        self._changes: deque[tuple[int, float]] = deque()
        """What is to come: ``(time.monotonic_ns(), factor)``."""

    @property
    def target(self) -> float:
        """Where it is, or is going to."""
        return self._changes[-1][1] if self._changes else self._now

    @property
    def settled(self) -> bool:
        """Whether no ramp is under way or to come."""
        return not self._changes

    def change(self, factor: float, at_ns: int) -> None:
        """Go to ``factor`` from the sample of ``at_ns`` on; what is applied already stays."""
        if factor != self.target:
            self._changes.append((at_ns, factor))

    def apply(self, pcm: Samples, end_ns: int | None = None) -> Samples:
        """float32 [n] with the gain on it, within full scale.

        Args:
            end_ns: the time of the end of the last sample; None puts every change at the first.
        """
        if self.settled:
            return _scaled(pcm, self._now)
        n = len(pcm)
        gains = np.empty(n, dtype=np.float32)
        at, target = 0, self._now
        while self._changes:
            start = _index(self._changes[0][0], end_ns, n)
            if start >= n:
                break
            at = self._slide(gains, at, max(at, start), target)
            target = self._changes.popleft()[1]
        self._slide(gains, at, n, target)
        if self._now != target:  # the ramp goes on in the next frame
            self._changes.appendleft((0, target))
        return np.clip(pcm * gains, -1.0, 1.0)

    def _slide(self, gains: Samples, start: int, end: int, target: float) -> int:
        """Fill ``gains[start:end]`` on the way to ``target``."""
        if end > start:
            steps = np.arange(1, end - start + 1, dtype=np.float32) / RAMP_SAMPLES
            if target >= self._now:
                gains[start:end] = np.minimum(self._now + steps, target)
            else:
                gains[start:end] = np.maximum(self._now - steps, target)
            reached = abs(target - self._now) <= (end - start) / RAMP_SAMPLES
            self._now = target if reached else float(gains[end - 1])
        return end


def _scaled(pcm: Samples, factor: float) -> Samples:
    if factor == 1.0:
        return pcm
    if factor == 0.0:
        return np.zeros_like(pcm)
    return np.clip(pcm * np.float32(factor), -1.0, 1.0)


def _index(at_ns: int, end_ns: int | None, n: int) -> int:
    """Which of ``n`` samples, the last ending at ``end_ns``, is the first at or after ``at_ns``."""
    return 0 if end_ns is None else max(0, n - max(0, round((end_ns - at_ns) * SAMPLE_RATE / 1e9)))
