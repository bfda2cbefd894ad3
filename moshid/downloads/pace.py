"""How many connections at once: a gate that can be resized, and the rule that finds the number.

The tuner is pure; the gate belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

GROWTH_MIN: Final = 1.1
"""Goodput has to rise by this factor for one more connection to be worth it."""


class Gate:
    """Lets ``limit`` holders in; ``hold`` keeps everybody out for a while (the server is busy)."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._held_until_s = 0.0
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """How many may be inside."""
        return self._limit

    async def resize(self, limit: int) -> None:
        """Change the limit; those inside beyond it stay until they leave."""
        async with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def hold(self, seconds: float) -> None:
        """Let nobody in for so long."""
        until_s = asyncio.get_running_loop().time() + seconds
        self._held_until_s = max(self._held_until_s, until_s)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Be inside."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._inside < self._limit)
            self._inside += 1
        try:
            await self._wait_out_hold()
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify()

    async def _wait_out_hold(self) -> None:
        left_s = self._held_until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
            await self._wait_out_hold()


class Tuner:
    """Adds a connection while goodput grows, halves them on trouble, never leaves 1 to ``most``.

    Grown without gain, it steps back by one and tries again after ``rest`` quiet rounds.
    """

    def __init__(self, start: int, most: int, *, rest: int = 10) -> None:
        self._now = start
        self._most = most
        self._rest = rest
        self._resting = 0
        self._best_bps = 0.0
        self._grew = False

    def next(self, goodput_bps: float, troubles: int) -> int:
        """The number of connections for the next round, after one with this goodput and so many
        setbacks."""
        if troubles > 0:
            self._now, self._grew = max(1, self._now // 2), False
            self._resting, self._best_bps = self._rest // 2, 0.0
        elif self._grew and goodput_bps < self._best_bps * GROWTH_MIN:
            self._now, self._grew, self._resting = max(1, self._now - 1), False, self._rest
        elif self._resting > 0:
            self._resting -= 1
        else:
            self._grew = self._now < self._most
            self._now = min(self._most, self._now + 1)
            self._best_bps = goodput_bps
        return self._now
