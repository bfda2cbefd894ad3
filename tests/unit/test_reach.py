"""While nobody can be reached, one tries and the others wait for its news."""

from __future__ import annotations

import asyncio
import random

import pytest

from moshid.downloads.backoff import Outage
from moshid.downloads.reach import Reach

pytestmark = pytest.mark.asyncio


def quick() -> Reach:
    """Waits that are none."""
    return Reach(Outage(0.0, 0.0, random.Random(0), lambda: 0.0))


async def test_all_may_try_while_all_is_well() -> None:
    reach, inside, everybody = quick(), 0, asyncio.Barrier(5)

    async def attempt() -> None:
        nonlocal inside
        async with reach.turn():
            inside += 1
            await everybody.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(attempt())
    assert inside == 5


async def test_scouts_go_one_after_the_other_and_none_is_waited_for() -> None:
    reach, scouts, enough = quick(), 0, asyncio.Event()
    reach.lose()

    async def attempt() -> None:
        nonlocal scouts
        async with reach.turn():
            scouts += 1
            if scouts == 3:
                enough.set()
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(attempt()) for _ in range(3)]
    await enough.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert reach.lost


async def test_good_news_ends_every_wait_and_bad_news_none() -> None:
    reach, inside = Reach(Outage(3600.0, 3600.0, random.Random(0), lambda: 0.0)), 0
    reach.lose()

    async def attempt() -> None:
        nonlocal inside
        async with reach.turn():
            inside += 1

    tasks = [asyncio.create_task(attempt()) for _ in range(5)]
    reach.lose()
    for _ in range(10):
        await asyncio.sleep(0)
    assert inside == 0
    reach.found()
    await asyncio.gather(*tasks)
    assert inside == 5


async def test_a_scout_that_is_cancelled_makes_room_for_the_next() -> None:
    reach, got_in = Reach(Outage(3600.0, 3600.0, random.Random(0), lambda: 0.0)), asyncio.Event()
    reach.lose()

    async def attempt() -> None:
        async with reach.turn():
            got_in.set()

    first, second = asyncio.create_task(attempt()), asyncio.create_task(attempt())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not got_in.is_set()
    reach.found()
    await second
    assert got_in.is_set()


async def test_an_outage_is_tried_at_a_fortieth_of_its_length() -> None:
    times_s = iter((0.0, 1.0, 10.0, 40.0, 3600.0, 3601.0))
    outage = Outage(0.2, 5.0, random.Random(1), lambda: next(times_s))
    waits_s = [outage.next_s() for _ in range(5)]
    for wait_s, whole_s in zip(waits_s, (0.2, 0.2, 0.25, 1.0, 5.0), strict=True):
        assert whole_s / 2 <= wait_s <= whole_s
    outage.over()
    assert outage.next_s() <= 0.2
