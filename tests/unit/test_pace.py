"""The gate: a crowd comes in one after the other."""

from __future__ import annotations

import asyncio
import time

import pytest

from moshid.downloads.pace import ENTRY_S, Gate

pytestmark = pytest.mark.asyncio


async def test_of_a_crowd_one_comes_in_after_the_other() -> None:
    gate, loop = Gate(8), asyncio.get_running_loop()
    entries_s: list[float] = []

    async def visitor() -> None:
        async with gate.slot():
            entries_s.append(loop.time())

    began_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(visitor())
    early_s = time.get_clock_info("monotonic").resolution
    for count, entry_s in enumerate(sorted(entries_s)):
        assert entry_s >= began_s + count * ENTRY_S - early_s


async def test_who_comes_alone_does_not_wait() -> None:
    gate, steps = Gate(1), 0

    async def count_steps() -> None:
        nonlocal steps
        while True:
            await asyncio.sleep(0)
            steps += 1

    counting = asyncio.create_task(count_steps())
    async with gate.slot():
        assert steps < 3
    counting.cancel()
