"""Whether a server is worth asking now. Owns the back-off between looks at one that failed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from moshid.downloads.backoff import Backoff

FIRST_S: Final = 5.0
MAX_S: Final = 300.0


class Health:
    """The health of one server; ``clock`` gives seconds."""

    def __init__(self, rng: random.Random, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = Backoff(FIRST_S, MAX_S, rng)
        self._clock = clock
        self.until_s = 0.0
        """Until then it is left alone, if there is another."""

    @property
    def is_down(self) -> bool:
        """It failed, and its time to be tried again has not come."""
        return self._clock() < self.until_s

    def failed(self, wait_s: float | None = None) -> None:
        """It did not answer, or wants to be left alone for so long. What many connections find out
        at once counts once."""
        if not self.is_down:
            self.until_s = self._clock() + max(self._backoff.next_s(), wait_s or 0.0)

    def well(self) -> None:
        """It gave what it was asked for."""
        self._backoff.reset()
        self.until_s = 0.0
