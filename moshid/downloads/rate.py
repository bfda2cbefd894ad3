"""A rate that does not jump, and a time left that does not either. Pure: times are given.

The rate is a mean that forgets: two first-order low-pass filters in a row, divided by what they
make of a constant one. Bytes that come in lumps therefore never lift it at once, and from the first
second on it is a mean over the time there has been. After ``SILENT_S`` without a byte it fades, and
is 0 at ``OFFLINE_S``. The time left is by one filter with a longer memory, for which the clock
stands still while the line is down, and it runs down by the clock: what the filter says only draws
it along.
"""

from __future__ import annotations

import copy
import math
from typing import Final

RATE_S: Final = 3.0
"""Time constant of the rate's filters: two of them, so bytes count for 6 s on the average."""

ETA_S: Final = 30.0
"""The same for the time left, by the first filter alone."""

SILENT_S: Final = 6.0
OFFLINE_S: Final = 12.0
DRAW_MIN_S: Final = 1.0
DRAW_MAX_S: Final = 10.0
"""The time left follows its filter within so long; a tenth of what is left, between these."""


class Mean:
    """Bytes a second, by two low-pass filters in a row."""

    def __init__(self, constant_s: float) -> None:
        self._constant_s = constant_s
        self._first = self._second = 0.0
        self._weight_first = self._weight_second = 0.0

    def add(self, count_bytes: float, span_s: float) -> None:
        """So many bytes came within ``span_s``."""
        if span_s <= 0:
            return
        fade = math.exp(-span_s / self._constant_s)
        steps = (count_bytes / span_s, 1.0)
        self._first, self._second = self._pass(self._first, self._second, steps[0], fade, span_s)
        self._weight_first, self._weight_second = self._pass(
            self._weight_first, self._weight_second, steps[1], fade, span_s
        )

    @property
    def bps(self) -> float:
        """The mean, after both filters."""
        return self._second / self._weight_second if self._weight_second > 0 else 0.0

    @property
    def brisk_bps(self) -> float:
        """The mean after the first filter: it steps when bytes come, but is right sooner."""
        return self._first / self._weight_first if self._weight_first > 0 else 0.0

    def _pass(
        self, first: float, second: float, level: float, fade: float, span_s: float
    ) -> tuple[float, float]:
        """Both filters after ``span_s`` of a constant level: exact, whatever the span is."""
        lag = first - level
        moved = level + (second - level + lag * span_s / self._constant_s) * fade
        return level + lag * fade, moved


class Pace:
    """A transfer's rate and time left. ``look`` at it now and then; how often does not matter."""

    def __init__(self) -> None:
        self._rate, self._slow = Mean(RATE_S), Mean(ETA_S)
        self._at_s: float | None = None
        self._moved_s = 0.0
        self._before_silence = Mean(ETA_S)
        self._seen = (0.0, 0.0)
        self._eta_s: float | None = None
        self.rate_bps = 0.0
        self.eta_s: float | None = None

    def look(self, now_s: float, line_bytes: float, gained_bytes: float, left_bytes: float) -> None:
        """``line_bytes`` have come over the line in all; of these, ``gained_bytes`` were wanted;
        ``left_bytes`` are still to come."""
        seen, self._seen = self._seen, (line_bytes, gained_bytes)
        if self._at_s is None:
            self._at_s = self._moved_s = now_s
            return
        looked_s, self._at_s = self._at_s, now_s
        span_s = now_s - looked_s
        if span_s <= 0:
            self._seen = seen
            return
        came, gained = line_bytes - seen[0], gained_bytes - seen[1]
        if came <= 0 and self._moved_s == looked_s:
            self._before_silence = copy.copy(self._slow)
        if came > 0:
            self._moved_s = now_s
        silent_s = now_s - self._moved_s
        self._rate.add(max(0.0, came), span_s)
        self.rate_bps = self._rate.bps * _presence(silent_s)
        online = silent_s < OFFLINE_S
        if online:
            self._slow.add(max(0.0, gained), span_s)
        else:  # that was no pause of the line's, and counts for nothing
            self._slow = copy.copy(self._before_silence)
        self._draw(span_s if online else 0.0, left_bytes)
        self.eta_s = self._eta_s if online else None

    def _draw(self, span_s: float, left_bytes: float) -> None:
        if self._slow.brisk_bps <= 0:
            self._eta_s = None
            return
        target_s = left_bytes / self._slow.brisk_bps
        if self._eta_s is None or left_bytes <= 0:
            self._eta_s = target_s
            return
        run_s = max(0.0, self._eta_s - span_s)
        draw_s = min(DRAW_MAX_S, max(DRAW_MIN_S, target_s / 10))
        self._eta_s = run_s + (target_s - run_s) * (1.0 - math.exp(-span_s / draw_s))


def _presence(silent_s: float) -> float:
    """1 while bytes come, down to 0 when the line is taken to be down."""
    return min(1.0, max(0.0, (OFFLINE_S - silent_s) / (OFFLINE_S - SILENT_S)))
