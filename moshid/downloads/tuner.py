"""How many connections pay: the rule that finds the number by measuring. Pure."""

from __future__ import annotations

from typing import Final

GROWTH_MIN: Final = 1.1
"""Goodput has to rise by this factor for one more connection to be worth it."""

COLLAPSE: Final = 0.7
"""Failed attempts are the line's trouble when goodput is below this part of the usual."""

FADING: Final = 0.95
"""The usual goodput is forgotten by so much a round."""

ROUNDS_AFTER_TROUBLE: Final = 2


class Tuner:
    """Adds a connection while goodput grows, halves them on trouble, never leaves 2 (``start``, if
    that is less) to ``most``.

    Trouble is when as many attempts failed as there are connections, and goodput fell: a router
    that is overrun drops everything at once. A far end that cuts one connection in ten does not,
    and fewer of them would only make it worse: where one stalls, the others keep the line busy.
    Grown without gain, it steps back by one and tries again after ``rest`` quiet rounds; back to
    ``start`` it grows without gain, too.
    """

    def __init__(self, start: int, most: int, *, rest: int = 10) -> None:
        self._now = start
        self._start = start
        self._least = min(start, 2)
        self._most = most
        self._rest = rest
        self._resting = 0
        self._usual_bps = 0.0
        self._before_bps: float | None = None

    def next(self, goodput_bps: float, troubles: int) -> int:
        """The number of connections for the next round, after one with this goodput and so many
        setbacks."""
        collapsed = goodput_bps <= COLLAPSE * self._usual_bps
        self._usual_bps = max(goodput_bps, FADING * self._usual_bps)
        before_bps, self._before_bps = self._before_bps, None
        if troubles >= self._now and collapsed:
            self._now, self._resting = max(self._least, self._now // 2), ROUNDS_AFTER_TROUBLE
        elif before_bps is not None and goodput_bps < before_bps * GROWTH_MIN:
            self._now, self._resting = max(self._least, self._now - 1), self._rest
        elif self._resting > 0:
            self._resting -= 1
        elif self._now < self._start:
            self._now += 1
        elif self._now < self._most:
            self._now, self._before_bps = self._now + 1, goodput_bps
        return self._now
