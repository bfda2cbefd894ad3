"""Whether the servers can be reached, as far as attempts tell. Owns who may try while they cannot.

While the line is down, scouts try it, now and then, one after the other; the others wait for their
news. An hour offline costs a request every few seconds, and its end is noticed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from moshid.downloads.backoff import Outage
from moshid.downloads.bell import Bell


class Reach:
    """Of one job. Belongs to one event loop."""

    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._lost = False
        self._scouts = asyncio.Lock()
        self._news = Bell()

    @property
    def lost(self) -> bool:
        """Nothing could be reached when it was last tried."""
        return self._lost

    def lose(self) -> None:
        """A server could not be reached."""
        self._lost = True

    def found(self) -> None:
        """A server has answered: everybody may go on."""
        self._outage.over()
        self._lost = False
        self._news.ring()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Be allowed to try: at once while all is well, otherwise as a scout, a while after the
        last one left. Nobody waits for a scout to come back: from a black hole none does."""
        if self._lost:
            async with self._scouts:
                if self._lost:  # it may have been found while the others went
                    await self._wait()
        yield

    async def _wait(self) -> None:
        """Return when it is time for the next scout, or when there is good news."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._outage.next_s()):
                while self._lost:
                    await self._news.wait()
