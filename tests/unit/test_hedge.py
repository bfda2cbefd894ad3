"""A late answer is asked for again beside the first time; the first one counts."""

from __future__ import annotations

import asyncio

import pytest

from moshid.downloads.hedge import hedged

pytestmark = pytest.mark.asyncio

Asked = list[asyncio.Future[str]]


def asker(asked: Asked, answers: dict[int, str | Exception]) -> asyncio.Future[str]:
    """One more question; those with these numbers are answered at once."""
    future = asyncio.get_running_loop().create_future()
    answer = answers.get(len(asked))
    if isinstance(answer, Exception):
        future.set_exception(answer)
    elif answer is not None:
        future.set_result(answer)
    asked.append(future)
    return future


async def test_a_quick_answer_is_asked_for_once() -> None:
    asked: Asked = []
    assert await hedged(lambda: asker(asked, {0: "a"}), (60.0,)) == "a"
    assert len(asked) == 1


async def test_a_lost_question_is_asked_again() -> None:
    asked: Asked = []
    assert await hedged(lambda: asker(asked, {2: "c"}), (0.0, 0.0)) == "c"
    assert len(asked) == 3
    assert all(f.cancelled() for f in asked[:2])


async def test_the_first_failure_counts_as_an_answer() -> None:
    asked: Asked = []
    with pytest.raises(OSError, match="refused"):
        await hedged(lambda: asker(asked, {1: OSError("refused")}), (0.0, 60.0))


async def test_nobody_is_left_asking_when_the_caller_leaves() -> None:
    asked: Asked = []
    twice = asyncio.Barrier(2)

    def ask() -> asyncio.Future[str]:
        if asked:
            told.append(asyncio.create_task(twice.wait()))
        return asker(asked, {})

    told: list[asyncio.Task[int]] = []
    caller = asyncio.create_task(hedged(ask, (0.0,)))
    await twice.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert all(f.cancelled() for f in asked)
