"""The watch over a worker's steps: what is a hang, by the answers of a worker that is made up."""

from __future__ import annotations

from typing import Any, cast

import pytest

from moshid.model.messages import STEP_ACTIVITY, WAKING_ACTIVITY
from moshid.model.watchdog import WAKING_LIMIT_S, Watchdog
from moshid.supervisor import WorkerProcess

LIMIT_S = 0.05


class Pongs:
    """A worker that is asked how it does, and answers what it was given, in turn."""

    pid = 7
    alive = True

    def __init__(self, *answers: tuple[str, float]) -> None:
        self.left = list(answers)

    async def call(self, method: str, *, timeout_s: float) -> dict[str, Any]:
        assert (method, timeout_s) == ("ping", LIMIT_S)
        busy_with, busy_s = self.left.pop(0)
        return {"busy_with": busy_with, "busy_s": busy_s}


async def stalled(pongs: Pongs) -> str:
    watchdog = Watchdog(LIMIT_S)
    watchdog.needed.set()
    return (await watchdog.stalled(cast("WorkerProcess", pongs))).message


@pytest.mark.asyncio
async def test_a_step_over_the_limit_hangs_and_nothing_else_does() -> None:
    pongs = Pongs(("load", 900.0), (STEP_ACTIVITY, LIMIT_S / 2), (STEP_ACTIVITY, LIMIT_S))
    assert await stalled(pongs) == "a step took over 0.05 s"
    assert pongs.left == []


@pytest.mark.asyncio
async def test_the_first_step_after_a_long_rest_has_longer() -> None:
    pongs = Pongs((WAKING_ACTIVITY, WAKING_LIMIT_S - 1), (WAKING_ACTIVITY, WAKING_LIMIT_S))
    assert await stalled(pongs) == "a step took over 60 s"
    assert pongs.left == []
