"""The guard of a connection: seats are lent and taken back, and a held-up process blames nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from moshid.downloads.guard import Guard
from moshid.downloads.pace import Gate
from moshid.downloads.stall import DRIP_BYTES, Stalls, Watch

pytestmark = pytest.mark.asyncio


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop go round until that is so."""
    while not holds():  # noqa: ASYNC110  what is waited for is the guard's own look
        await asyncio.sleep(0.01)


def watch_of(clock: Callable[[], float], most_s: float = 30.0) -> Watch:
    """A connection that has just been answered."""
    watch = Stalls(most_s, clock).watch(lambda: False)
    watch.answered()
    return watch


async def test_a_silent_connection_lends_its_seat_and_takes_it_back() -> None:
    gate, ahead_s = Gate(1), 0.0
    loop = asyncio.get_running_loop()
    watch = watch_of(lambda: loop.time() + ahead_s)
    other_in = asyncio.Event()

    async def other() -> None:
        async with gate.slot():
            other_in.set()

    async with gate.slot(), asyncio.timeout(None) as timer:
        with Guard(watch, gate, timer).on_duty():
            waiting = asyncio.create_task(other())
            ahead_s = 1.0
            await other_in.wait()
            await waiting
            watch.took(DRIP_BYTES)
            await until(lambda: gate._inside == 1)
    assert gate._inside == 0


async def test_a_stalled_connection_is_ended() -> None:
    ahead_s = 0.0
    loop = asyncio.get_running_loop()
    watch = watch_of(lambda: loop.time() + ahead_s)

    async def attempt() -> None:
        async with asyncio.timeout(None) as timer:
            with Guard(watch, Gate(1), timer).on_duty():
                await asyncio.Event().wait()

    ahead_s = 5.0
    with pytest.raises(TimeoutError):
        await attempt()


async def test_a_process_that_was_held_up_blames_nobody() -> None:
    loop = asyncio.get_running_loop()
    watch = watch_of(loop.time, most_s=0.3)
    async with asyncio.timeout(None) as timer:
        with Guard(watch, Gate(1), timer).on_duty():
            time.sleep(0.6)  # noqa: ASYNC251  the whole loop stands still
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not watch.is_over
            watch.took(DRIP_BYTES)
    assert not timer.expired()
