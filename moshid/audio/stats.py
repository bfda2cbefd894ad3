"""Numbers about a running talk. Owns the windows that percentiles are taken over."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

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
