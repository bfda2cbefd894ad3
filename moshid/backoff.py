"""How long to wait before a process is started again, and when to give up. Pure, but for its dice.

Not for downloads: these have waits of their own (``downloads.backoff``).
"""

from __future__ import annotations

import random


class Backoff:
    """Growing waits with jitter between restarts, and an end to patience."""

    def __init__(self, first_s: float, tries_max: int, *, longest_s: float = 30.0) -> None:
        self._first_s = first_s
        self._tries_max = tries_max
        self._longest_s = longest_s
        self._tries = 0

    @property
    def tries(self) -> int:
        """Restarts since the last ``reset``."""
        return self._tries

    def next_s(self) -> float | None:
        """Seconds to wait before the next try; None: give up."""
        if self._tries >= self._tries_max:
            return None
        wait_s = min(self._longest_s, self._first_s * float(2**self._tries))
        self._tries += 1
        return wait_s * random.uniform(0.8, 1.2)

    def reset(self) -> None:
        """All is well again."""
        self._tries = 0
