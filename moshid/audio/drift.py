"""How two sound clocks run apart, and what to do about it. Owns the estimate and the control law.

Pure: sample counts and times go in. A callback's time stamp is late by what kept it waiting, so of
each half second the second earliest stamp of each clock is taken (the earliest may be a stamp read
too soon). What is left goes through a filter of second order with a growing memory: at first every
value counts alike, as in a regression over all of them; from 40 s on old ones fade (F. Adriaensen,
"Using a DLL to filter time", with gains that shrink as 1/n).
"""

from __future__ import annotations

from typing import Final

from moshid.audio.frames import SAMPLE_RATE

BUCKET_NS: Final = 500_000_000
BUCKET_VALUES_MIN: Final = 3
MEMORY_BUCKETS: Final = 80
TRUSTED_BUCKETS: Final = 6
"""From 3 s on the drift is told, and what lies far off is doubted."""

STEP_SAMPLES_MIN: Final = 48.0
STEP_NOISES: Final = 6.0
STEP_BUCKETS: Final = 3
"""A distance off by more than 2 ms, and by six times its usual noise, is left out; when it stays
off for 1.5 s, a device has lost or doubled sound: the distance starts afresh, the drift is kept, as
if it had come from ``STEP_MEMORY`` values."""

STEP_MEMORY: Final = 20

DRIFT_MAX: Final = 0.001
"""Twice what any pair of sound cards has. More is a server that has not the time for its work."""

CATCH_UP_S: Final = 5.0
STEER_MAX: Final = 0.002
"""3.5 cents: not heard."""

STEER_STEP_MAX: Final = 0.00004
"""From frame to frame, so that the pitch bends and does not jump."""


class Distance:
    """How many samples one clock has counted more than another, by time, smoothed.

    Counts are in samples at 24 kHz; each clock calls its own seconds seconds.
    """

    def __init__(self) -> None:
        self._bucket_end_ns: int | None = None
        self._heard: list[float] = []
        self._played: list[float] = []
        self._origin_ns = 0
        self._value = self._slope = 0.0
        self._value_ns = 0
        self._values = 0
        self._noise = 0.0
        self._off = 0

    def add(self, heard: float, heard_ns: int, played: float, played_ns: int) -> None:
        """The microphone had counted ``heard`` at ``heard_ns``, the speaker ``played`` at
        ``played_ns``; each pair once."""
        if self._bucket_end_ns is None:
            self._origin_ns, self._bucket_end_ns = heard_ns, heard_ns + BUCKET_NS
        self._heard.append(heard - self._nominal(heard_ns))
        self._played.append(played - self._nominal(played_ns))
        if not self._values:
            self._value, self._value_ns = self._heard[-1] - self._played[-1], heard_ns
        if heard_ns < self._bucket_end_ns or len(self._heard) < BUCKET_VALUES_MIN:
            return
        self._take(_second_highest(self._heard) - _second_highest(self._played), heard_ns)
        self._heard.clear()
        self._played.clear()
        self._bucket_end_ns = heard_ns + BUCKET_NS

    def at(self, now_ns: int) -> float:
        """The distance, heard minus played, in samples at 24 kHz."""
        return self._value + self._slope * (now_ns - self._value_ns) / 1e9

    @property
    def drift(self) -> float:
        """By which part of itself the speaker's clock is faster than the microphone's; 0 before
        it is known."""
        return -self._slope / SAMPLE_RATE if self.known else 0.0

    @property
    def known(self) -> bool:
        """Whether ``drift`` has settled."""
        return self._values >= TRUSTED_BUCKETS

    def _nominal(self, at_ns: int) -> float:
        return (at_ns - self._origin_ns) * SAMPLE_RATE / 1e9

    def _take(self, value: float, at_ns: int) -> None:
        error = value - self.at(at_ns)
        seconds = (at_ns - self._value_ns) / 1e9
        if self.known and self._is_off(error):
            self._off += 1
            if self._off >= STEP_BUCKETS:
                self._value, self._value_ns = value, at_ns
                self._values, self._off = STEP_MEMORY, 0
            return
        self._off = 0
        n = self._values = min(self._values + 1, MEMORY_BUCKETS)
        self._value, self._value_ns = self.at(at_ns), at_ns
        if n == 1:
            self._value = value
            return
        self._value += error * 2 * (2 * n - 1) / (n * (n + 1))
        slope = self._slope + error * 6 / (n * (n + 1)) / seconds
        self._slope = _within(DRIFT_MAX * SAMPLE_RATE, slope)
        self._noise += (abs(error) - self._noise) / min(n, 20)

    def _is_off(self, error: float) -> bool:
        return abs(error) > max(STEP_SAMPLES_MIN, STEP_NOISES * self._noise)


def steering(before: float, drift: float, late: float) -> float:
    """How many samples more to make out of each of the next frame's, as a part of it.

    Args:
        before: what it was for the last frame.
        drift: how much faster the speaker takes them.
        late: by how many samples at 24 kHz what is queued would be heard too late.
    """
    wanted = _within(STEER_MAX, drift - late / (CATCH_UP_S * SAMPLE_RATE))
    return before + _within(STEER_STEP_MAX, wanted - before)


def _within(limit: float, value: float) -> float:
    return max(-limit, min(limit, value))


def _second_highest(values: list[float]) -> float:
    return sorted(values)[-2]
