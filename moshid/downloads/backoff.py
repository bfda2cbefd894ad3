"""How long to wait before trying again. Pure, but for the randomness it is given."""

from __future__ import annotations

import random

_DOUBLINGS_MAX = 32


class Backoff:
    """Doubles from ``first_s`` to ``max_s``, each wait shortened at random by up to half, so that
    many connections that broke together do not come back together."""

    def __init__(self, first_s: float, max_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self._failures = 0

    def next_s(self) -> float:
        """The wait after one more failure."""
        whole_s = min(self._max_s, self._first_s * 2.0**self._failures)
        self._failures = min(self._failures + 1, _DOUBLINGS_MAX)
        return whole_s * self._rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """There was progress."""
        self._failures = 0
