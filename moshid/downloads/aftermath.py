"""Listens for a while to connections that were given up as stalled: was it right to?

Owns a job's connections from the question on. What a connection still says afterwards is not taken,
but teaches its limit how long this line's gaps are: a server that sends by fits and starts is given
up once or twice, and then no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aiohttp

from moshid.downloads.stall import DRIP_BYTES, Watch

LISTEN_S: Final = 30.0
LISTENERS_MAX: Final = 8

Asking = asyncio.Task[aiohttp.ClientResponse]


class Aftermath:
    """Of one job. Belongs to one event loop."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def connection(
        self, watch: Watch, ask: Coroutine[Any, Any, aiohttp.ClientResponse]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to ``ask``; given back when the block is left, listened to if it had
        stalled."""
        asking: Asking = asyncio.create_task(ask)
        stalled = False
        try:
            yield await asyncio.shield(asking)
        except asyncio.CancelledError:
            stalled = watch.is_over
            raise
        finally:
            if stalled and len(self._listeners) < LISTENERS_MAX:
                listener = asyncio.create_task(_listen(watch, asking))
                self._listeners.add(listener)
                listener.add_done_callback(self._listeners.discard)
            else:
                await _let_go(asking)

    async def close(self) -> None:
        """Listen no more."""
        for listener in self._listeners:
            listener.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)


async def _listen(watch: Watch, asking: Asking) -> None:
    limit, since_s, clock = watch.limit, watch.since_s, watch.stalls.clock
    heard_bytes = 0
    try:
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(LISTEN_S):
                answer = await asking
                while limit is watch.stalls.body and heard_bytes < DRIP_BYTES:
                    piece = await answer.content.readany()
                    if not piece:
                        return
                    heard_bytes += len(piece)
            limit.moved(clock() - since_s, clock())
    finally:
        await _let_go(asking)


async def _let_go(asking: Asking) -> None:
    asking.cancel()
    await asyncio.wait([asking])
    if not asking.cancelled() and asking.exception() is None:
        asking.result().release()
