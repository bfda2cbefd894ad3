"""Asks a question again, beside the first time, when the answer is late. Owns nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def hedged(ask: Callable[[], asyncio.Future[T]], gaps_s: Sequence[float]) -> T:
    """The first answer, or failure, to ``ask()``; it is asked once more after each gap without one.
    A request that got lost costs a gap, not its time-out."""
    asked: set[asyncio.Future[T]] = set()
    try:
        for gap_s in (*gaps_s, None):
            asked.add(ask())
            done, _ = await asyncio.wait(asked, timeout=gap_s, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return done.pop().result()
        raise AssertionError("the last wait has no end but an answer")
    finally:
        for future in asked:
            if future.done() and not future.cancelled():
                future.exception()  # seen, or there was a better answer
            future.cancel()
