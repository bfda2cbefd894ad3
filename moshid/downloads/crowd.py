"""How many connections a server has room for, learned from whom it refuses. Pure.

A server with room for few refuses all beyond, each time that they ask, for hours. One that is
merely busy, or slips now and then, gives to more in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

REFUSALS: Final = 8
"""So many in a row, without one more connection being given, are looked at together."""

ALIKE: Final = 6
"""So many of them while as many as ever brought bytes: then that is the number."""

SPAN_S: Final = 10.0
"""From the first of them to the last; a server that is busy for some seconds may refuse more."""

REST_FIRST_S: Final = 15.0
REST_MAX_S: Final = 600.0
"""So long nobody beyond that number asks, twice as long each time; then one does."""


class Crowd:
    """Of one job. ``clock``: in seconds. ``bringing``: how many connections bring bytes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at: deque[int] = deque(maxlen=REFUSALS)
        """How many brought bytes at each of the last refusals."""
        self._since_s = 0.0
        """When the first of them came."""
        self._most: int | None = None
        self._rest_s = 0.0
        self._until_s = 0.0

    @property
    def room(self) -> int | None:
        """So many may ask at a time; None: nothing is known against more."""
        if self._most is None:
            return None
        return max(1, self._most if self._clock() < self._until_s else self._most + 1)

    @property
    def rest_s(self) -> float:
        """So long until there may be room for one more."""
        return max(0.0, self._until_s - self._clock())

    def gave(self, bringing: int) -> None:
        """The server gives bytes to one more, who is among those."""
        if self._at and bringing > max(self._at):
            self._at.clear()
        if self._most is not None and bringing > self._most:
            self._most, self._rest_s = None, 0.0

    def refused(self, bringing: int) -> bool:
        """It had no room for one more; whether nobody need ask it for a while."""
        if not self._at:
            self._since_s = self._clock()
        self._at.append(bringing)
        most = max(self._at)
        if self._most is not None and bringing >= self._most:
            most = self._most
        elif not self._is_told(most):
            return False
        if self._most != most:
            self._rest_s = 0.0
        elif self.rest_s > 0:
            return False
        self._rest_s = min(max(REST_FIRST_S, 2 * self._rest_s), REST_MAX_S)
        self._most, self._until_s = most, self._clock() + self._rest_s
        self._at.clear()
        return True

    def _is_told(self, most: int) -> bool:
        """Whether the last refusals tell that there is room for so many."""
        is_long = self._clock() - self._since_s >= SPAN_S
        return is_long and len(self._at) == REFUSALS and self._at.count(most) >= ALIKE
