"""A push in mid-download: a job is one commit's files, whenever ``main`` moves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.far_hub import PushedHub
from tests.fakes.repos import REPO, make_repo

pytestmark = pytest.mark.asyncio

SIZE = 800_001


def pushed_hub(tmp_path: Path, after: int, rate_bps: float | None = None) -> PushedHub:
    """A Hub whose ``main`` moves after so many questions."""
    old, new = tmp_path / "old", tmp_path / "new"
    make_repo(old, SIZE, seed=1)
    make_repo(new, SIZE, seed=50)
    return PushedHub(old, new, after=after, rate_bps=rate_bps)


def assert_one_commit(hub: PushedHub, cache: Path, job: Job) -> None:
    """All that is in the cache is what its one commit holds."""
    place = cache / "models--org--parrot"
    assert [f.name for f in (place / "snapshots").iterdir()] == [job.commit]
    assert (place / "refs" / "main").read_text() == job.commit
    right = hub.commits(REPO)[job.commit].entries
    for file in job.files:
        got = (place / "snapshots" / job.commit / file.path).read_bytes()
        assert got == right[file.path].file.read_bytes()


@pytest.mark.parametrize("after", range(1, 7))
async def test_a_push_between_two_questions_mixes_nothing(tmp_path: Path, after: int) -> None:
    cache = tmp_path / "cache"
    async with (
        pushed_hub(tmp_path, after) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert hub.questions > after
    assert job.state is JobState.DONE
    assert job.commit == next(iter(hub.commits(REPO))), "the first answer pins it"
    assert_one_commit(hub, cache, job)


async def test_a_push_while_the_service_is_down_mixes_nothing(tmp_path: Path) -> None:
    cache, home, bus = tmp_path / "cache", tmp_path / "home", Bus()
    async with pushed_hub(tmp_path, after=1 << 30, rate_bps=2e6) as hub:
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > SIZE // 3))
        async with running(make_service(home, hub.endpoint, cache, bus=bus)) as service:
            job, _ = await service.start(REPO)
            await moving
        hub.after = 0
        async with running(make_service(home, hub.endpoint, cache)) as service:
            job = await service.wait(job.id)
            assert job.state is JobState.DONE
            assert job.commit == next(iter(hub.commits(REPO)))
            assert_one_commit(hub, cache, job)
            again, created = await service.start(REPO)
            assert created, "main is another commit now, and another job"
            assert (await service.wait(again.id)).commit != job.commit
