"""What a connection that was given up still says sets the limit; what it never says does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from moshid.downloads.aftermath import Aftermath
from moshid.downloads.stall import BODY_S, DRIP_BYTES, FIRST_BYTE_S, GAPS, Stalls, Watch

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def server(more: asyncio.Event, first: asyncio.Event) -> AsyncIterator[str]:
    """Answers when ``first`` is set, with a body that goes on when ``more`` is."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await first.wait()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await more.wait()
        await response.write(b"x" * DRIP_BYTES)
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/"
    finally:
        await runner.cleanup()


async def given_up(
    aftermath: Aftermath,
    watch: Watch,
    session: aiohttp.ClientSession,
    url: str,
    stalled: Callable[[], None],
) -> None:
    """Ask, and be cut off after ``stalled``."""
    waiting = asyncio.Event()

    async def attempt() -> None:
        waiting.set()
        async with aftermath.connection(watch, session.get(url)) as answer:
            watch.answered()
            await answer.content.readany()
            waiting.set()
            await answer.content.readany()

    task = asyncio.create_task(attempt())
    await waiting.wait()
    await asyncio.sleep(0)
    stalled()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_late_first_byte_is_learnt_from() -> None:
    now_s, more, first = 0.0, asyncio.Event(), asyncio.Event()
    stalls, aftermath = Stalls(60.0, lambda: now_s), Aftermath()
    watch = stalls.watch(lambda: False)

    def stall() -> None:
        nonlocal now_s
        now_s = FIRST_BYTE_S

    async with server(more, first) as url, aiohttp.ClientSession() as session:
        await given_up(aftermath, watch, session, url, stall)
        (listener,) = aftermath._listeners
        now_s = 2 * FIRST_BYTE_S
        first.set()
        await listener
        more.set()
        await aftermath.close()
    assert stalls.first_byte.limit_s() == GAPS * 2 * FIRST_BYTE_S
    assert stalls.body.limit_s() == BODY_S


async def test_what_stays_silent_teaches_nothing_and_is_closed() -> None:
    now_s, more, first = 0.0, asyncio.Event(), asyncio.Event()
    stalls, aftermath = Stalls(60.0, lambda: now_s), Aftermath()
    watch = stalls.watch(lambda: False)

    def stall() -> None:
        nonlocal now_s
        now_s = FIRST_BYTE_S

    async with server(more, first) as url, aiohttp.ClientSession() as session:
        await given_up(aftermath, watch, session, url, stall)
        assert len(aftermath._listeners) == 1
        await aftermath.close()
        first.set()
        more.set()
    assert not aftermath._listeners
    assert stalls.first_byte.limit_s() == FIRST_BYTE_S


async def test_a_connection_that_had_not_stalled_is_not_listened_to() -> None:
    more, first = asyncio.Event(), asyncio.Event()
    stalls, aftermath = Stalls(60.0, lambda: 0.0), Aftermath()
    watch = stalls.watch(lambda: False)
    async with server(more, first) as url, aiohttp.ClientSession() as session:
        await given_up(aftermath, watch, session, url, lambda: None)
        assert not aftermath._listeners
        first.set()
        more.set()
