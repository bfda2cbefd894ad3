"""Room at a server: the first who waits has it first, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from moshid.downloads.room import Room

pytestmark = pytest.mark.asyncio


async def test_who_waits_longest_has_the_next_room() -> None:
    room = Room()
    room.make()  # nobody waits: it is not kept
    first, second = (asyncio.create_task(room.wait(60.0)) for _ in range(2))
    await asyncio.sleep(0)
    room.make()
    assert await first
    assert not second.done()
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.create_task(room.wait(60.0))
    await asyncio.sleep(0)
    room.make()
    assert await third, "who has left is passed over"


async def test_a_wait_has_its_end() -> None:
    assert not await Room().wait(0.0)
