"""How many connections at once: a gate that can be resized, and the rule that finds the number.

The tuner is pure; the gate belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from moshid.downloads.allowance import Unlimited
from moshid.downloads.crowd import Crowd

ENTRY_S: Final = 0.005
"""Of a crowd one comes in after the other, so far apart: to open a connection keeps the event loop
(and a home router) busy, and dozens at once would keep clients waiting for their answers."""


class Gate:
    """Lets ``limit`` holders in, no more than the job's ``allowance`` has seats for, and than the
    server has room for; ``hold`` keeps everybody out for a while (the server is busy)."""

    def __init__(self, limit: int, allowance: Unlimited | None = None) -> None:
        self.allowance = allowance or Unlimited()
        self._limit = limit
        self._inside = 0
        self._held_until_s = 0.0
        self._next_entry_s = 0.0
        self._crowd = Crowd(lambda: asyncio.get_running_loop().time())
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.allowance.on_seats = self._admit

    @property
    def limit(self) -> int:
        """How many may be inside."""
        room = self._crowd.room
        return self._limit if room is None else min(self._limit, room)

    async def resize(self, limit: int) -> None:
        """Change the limit; those inside beyond it stay until they leave."""
        self._limit = limit
        self._admit()

    def gave(self, bringing: int) -> None:
        """The server gives bytes to one more, so that so many bring some."""
        self._crowd.gave(bringing)
        self._admit()

    def refused(self, bringing: int) -> None:
        """The server had no room for one more than those."""
        if self._crowd.refused(bringing):
            asyncio.get_running_loop().call_later(self._crowd.rest_s, self._admit)

    def hold(self, seconds: float) -> None:
        """Let nobody in for so long."""
        until_s = asyncio.get_running_loop().time() + seconds
        self._held_until_s = max(self._held_until_s, until_s)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Be inside."""
        await self._enter()
        try:
            await self._wait_out_hold()
            await self._turnstile()
            yield
        finally:
            self._leave()

    def lend(self) -> None:
        """One inside is silent: another may come in meanwhile."""
        self._leave()

    def take_back(self) -> None:
        """It is heard again: there may be one too many for a while."""
        self._inside += 1
        self.allowance.opened()

    async def _enter(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _admit(self) -> None:
        """Let in as many as there is room for, in the order they came."""
        while self._waiting and self._inside < self.limit and self.allowance.may_open():
            turn = self._waiting.popleft()
            if not turn.done():
                self._inside += 1
                self.allowance.opened()
                turn.set_result(None)

    def _leave(self) -> None:
        self._inside -= 1
        self.allowance.closed()
        self._admit()

    async def _wait_out_hold(self) -> None:
        left_s = self._held_until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)
            await self._wait_out_hold()

    async def _turnstile(self) -> None:
        now_s = asyncio.get_running_loop().time()
        entry_s = max(now_s, self._next_entry_s)
        self._next_entry_s = entry_s + ENTRY_S
        if entry_s > now_s:
            await asyncio.sleep(entry_s - now_s)
