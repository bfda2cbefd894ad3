"""How long to wait before trying again. Pure, but for the randomness it is given."""

from __future__ import annotations

import random
from collections.abc import Callable

_DOUBLINGS_MAX = 32
_OUTAGE_SHARE = 0.025


class Backoff:
    """Doubles from ``first_s`` to ``max_s``, each wait shortened at random by up to half, so that
    many connections that broke together do not come back together."""

    def __init__(self, first_s: float, max_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self.failures = 0
        """In a row."""

    def next_s(self) -> float:
        """The wait after one more failure."""
        whole_s = min(self._max_s, self._first_s * 2.0**self.failures)
        self.failures = min(self.failures + 1, _DOUBLINGS_MAX)
        return whole_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """There was progress."""
        self.failures = 0


class Outage:
    """Waits between tries while nobody answers: a fortieth of how long that has been so, between
    ``first_s`` and ``max_s``, each shortened at random by up to half. So the end of an outage is
    noticed in good time, measured by the outage. ``clock``: in seconds."""

    def __init__(
        self, first_s: float, max_s: float, rng: random.Random, clock: Callable[[], float]
    ) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self._clock = clock
        self._since_s: float | None = None

    def next_s(self) -> float:
        """The wait after one more failure."""
        now_s = self._clock()
        if self._since_s is None:
            self._since_s = now_s
        whole_s = max(self._first_s, _OUTAGE_SHARE * (now_s - self._since_s))
        return min(self._max_s, whole_s) * self._rng.uniform(0.5, 1.0)

    def over(self) -> None:
        """There was an answer."""
        self._since_s = None
