"""Step times: a bounded ring of the last ones and their percentiles."""

from __future__ import annotations

import math
import time
from collections import deque

from moshid.model.messages import BenchTimes, Percentiles

KEPT_STEPS = 750
"""One minute of frames."""


class StepTimes:
    """The last ``kept`` step times in milliseconds."""

    def __init__(self, kept: int = KEPT_STEPS) -> None:
        self._ms: deque[float] = deque(maxlen=kept)
        self._last_at_s: float | None = None

    def add(self, ms: float) -> None:
        """A step just took ``ms``."""
        self._ms.append(ms)
        self._last_at_s = time.monotonic()

    def percentiles(self) -> Percentiles | None:
        """p50, p95 and p99 of the steps kept, or None without any."""
        if not self._ms:
            return None
        ordered = sorted(self._ms)
        p50, p95, p99 = (_rank(ordered, q) for q in (0.50, 0.95, 0.99))
        return Percentiles(p50=p50, p95=p95, p99=p99)

    def bench(self) -> BenchTimes:
        """Percentiles and extremes of the steps kept; there has to be one."""
        ordered = sorted(self._ms)
        p50, p95, p99 = (_rank(ordered, q) for q in (0.50, 0.95, 0.99))
        lowest, highest = round(ordered[0], 3), round(ordered[-1], 3)
        return BenchTimes(p50=p50, p95=p95, p99=p99, min=lowest, max=highest)

    def last_age_s(self) -> float | None:
        """Seconds since the last step, or None without any."""
        return None if self._last_at_s is None else time.monotonic() - self._last_at_s


def _rank(ordered: list[float], quantile: float) -> float:
    """Nearest-rank percentile, to the microsecond."""
    return round(ordered[max(0, math.ceil(quantile * len(ordered)) - 1)], 3)
