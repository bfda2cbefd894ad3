"""Pause, resume, cancel and start from many callers at once: no state is torn, nobody is stuck."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from moshid.downloads.service import DownloadService
from moshid.downloads.states import JobState
from moshid.errors import WrongJobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.repos import REPO, content

pytestmark = pytest.mark.asyncio

FILES = {
    "config.json": b'{"dim": 256}',
    "tokenizer.model": b"abc",
    "model.safetensors": content(700_001, seed=7),
}


def changes(service: DownloadService, job_id: str) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    """What callers may do to a job."""
    return [
        lambda: service.pause(job_id),
        lambda: service.resume(job_id),
        lambda: service.cancel(job_id),
        lambda: service.start(REPO),
    ]


@pytest.mark.parametrize("seed", range(8))
async def test_many_callers_at_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with (
        OddHub({REPO: OddRepo(Odd(), FILES)}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        for _round in range(6):
            asked = [rng.choice(changes(service, job.id))() for _ in range(6)]
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                assert not isinstance(outcome, BaseException) or isinstance(outcome, WrongJobState)
        await service.start(REPO)
        assert (await service.wait(job.id)).state is JobState.DONE
        found = service.on_disk(REPO)["model.safetensors"]
        assert found.read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("name", ["pause", "cancel"])
async def test_a_caller_that_leaves_leaves_nothing_half_way(tmp_path: Path, name: str) -> None:
    """It is cancelled while the job's task still ends: the job comes to rest all the same."""
    wanted = JobState.PAUSED if name == "pause" else JobState.CANCELLED
    bus = Bus()
    async with (
        OddHub({REPO: OddRepo(Odd(refuse_bytes=True), FILES)}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus)) as s,
    ):
        job, _ = await s.start(REPO)
        await hub.refused.wait()
        resting = asyncio.create_task(until(bus, lambda j: j.state is wanted))
        caller = asyncio.create_task(getattr(s, name)(job.id))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        assert (await resting).id == job.id
        assert s.get(job.id).state is wanted


async def test_a_ledger_that_cannot_be_written_does_not_end_the_service(tmp_path: Path) -> None:
    async with (
        OddHub({REPO: OddRepo(Odd(refuse_bytes=True), FILES)}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        await hub.refused.wait()
        assert service._engine is not None
        await service._engine.ledger.call(lambda ledger: ledger._db.execute("PRAGMA query_only=1"))
        hub.repos[REPO].odd = Odd()
        job = await service.wait(job.id)
        assert job.error is not None
        assert (job.state, job.error.kind) == (JobState.FAILED, "download.ledger_broken")
