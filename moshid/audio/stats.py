"""Numbers about a running talk. Owns the windows that percentiles are taken over."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

HOLE_WINDOW_FRAMES: Final = 25
HOLE_MS_MIN: Final = 5.0
"""Clocks that differ by 500 ppm part by a millisecond in a window."""

WINDOW_FRAMES: Final = 750
"""One minute: percentiles speak of the recent past, and memory stays bounded."""


class Window:
    """The last ``WINDOW_FRAMES`` values of something measured in milliseconds."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=WINDOW_FRAMES)

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value_ms: float) -> None:
        """Remember one value."""
        self._values.append(value_ms)

    @property
    def last(self) -> float | None:
        """The newest value in milliseconds, rounded; None while there is none."""
        return round(self._values[-1], 2) if self._values else None

    def percentiles(self) -> dict[str, float | None]:
        """``{"p50", "p95"}`` in milliseconds; None while there are no values."""
        if not self._values:
            return {"p50": None, "p95": None}
        p50, p95 = np.percentile(list(self._values), [50, 95])
        return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


class Holes:
    """Time in which the microphone brought nothing: the machine slept, the device or this process
    stood still. Told from frames that come later and later for their place in the sound; jitter is
    kept out by taking the earliest of two seconds."""

    def __init__(self) -> None:
        self.count = 0
        """Holes seen."""
        self.missed_ms = 0.0
        """How long they were together."""
        self._lateness: list[float] = []
        self._before: float | None = None

    def note(self, capture_ns: int, position_ns: int) -> None:
        """A frame whose end was captured at ``capture_ns`` begins at ``position_ns`` of the sound,
        what is known to be lost included."""
        self._lateness.append((capture_ns - position_ns) / 1e6)
        if len(self._lateness) < HOLE_WINDOW_FRAMES:
            return
        now = min(self._lateness)
        self._lateness.clear()
        if self._before is not None and now - self._before > HOLE_MS_MIN:
            self.count += 1
            self.missed_ms += now - self._before
        self._before = now
