"""Wrong answers, stalls, drips and silent corruption: the file arrives, and it is right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.fault_hub import Fault, FaultHub
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 1_000_001
CHUNK = QUICK["auto"].chunk_bytes
ON_ARRIVAL = {Fault.NONE, Fault.FLIPPED}


async def fetch(
    tmp_path: Path, faults: list[Fault], profile: str = "auto", workers: int | None = None
) -> tuple[Job, FaultHub]:
    """One job through a hub with these faults; the right file is in the cache afterwards."""
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with (
        FaultHub(tmp_path / "hub", faults) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS], profile=profile, workers=workers)
        job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert job.error is None
    assert not hub.faults
    assert [f for f in hub.done if f is not Fault.NONE] == [
        f for f in faults if f is not Fault.NONE
    ]
    assert_in_cache(folder, cache, WEIGHTS)
    return job, hub


@pytest.mark.parametrize("fault", [f for f in Fault if f not in ON_ARRIVAL])
async def test_a_wrong_answer_costs_an_attempt_and_no_byte(tmp_path: Path, fault: Fault) -> None:
    job, _hub = await fetch(tmp_path, [Fault.NONE, fault, fault])
    assert job.retries >= 2
    assert (job.chunks_corrupt, job.bytes_refetched, job.bytes_fetched) == (0, 0, SIZE)


async def test_all_faults_one_after_the_other(tmp_path: Path) -> None:
    faults = [f for f in Fault if f not in ON_ARRIVAL] * 2
    job, _hub = await fetch(tmp_path, faults, profile="robust")
    assert job.retries >= len(faults)
    assert job.bytes_refetched == 0


async def test_a_busy_server_is_left_alone_as_long_as_it_asks(tmp_path: Path) -> None:
    _job, hub = await fetch(tmp_path, [Fault.TOO_MANY])
    assert sum(s.server == "cdn" for s in hub.requests) <= 8


async def test_a_byte_that_was_wrong_on_arrival_is_found(tmp_path: Path) -> None:
    job, _hub = await fetch(tmp_path, [Fault.NONE, Fault.FLIPPED])
    assert job.chunks_corrupt == 1
    assert job.bytes_refetched > 0


async def test_suspects_are_fetched_first(tmp_path: Path) -> None:
    """The damaged chunk's arrival was odd, so it alone is fetched again."""
    job, _hub = await fetch(tmp_path, [Fault.EARLY_END, Fault.FLIPPED], workers=1)
    assert (job.chunks_corrupt, job.bytes_refetched) == (1, CHUNK)


async def test_a_hub_that_is_always_wrong_is_given_up_with_its_kind(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", SIZE)
    cache = tmp_path / "cache"
    async with (
        FaultHub(tmp_path / "hub", [Fault.FLIPPED] * 1000) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS])
        job = await service.wait(job.id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.kind == "download.digest_mismatch"
        assert service.on_disk(REPO) == {}
        assert not list(cache.rglob("blobs/*"))
        hub.faults.clear()
        report = await service.verify(job.id, repair=True)
        assert report.ok
    assert service.get(job.id).state is JobState.DONE


@pytest.mark.parametrize(
    "fault",
    [Fault.PORTAL, Fault.FORBIDDEN, Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.RATE_LIMIT],
)
async def test_a_hub_that_does_not_sound_like_one_is_asked_again(
    tmp_path: Path, fault: Fault
) -> None:
    """A captive portal or a broken proxy says nothing about the repository. (Where a HEAD is
    forbidden a GET asks, too: four make two questions.)"""
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with (
        FaultHub(tmp_path / "hub", hub_faults=[fault] * 4) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        trouble = asyncio.create_task(until(bus, lambda j: j.error is not None))
        job, created = await service.start(REPO, files=[WEIGHTS])
        assert created
        shown = await trouble
        assert shown.error is not None
        assert shown.error.kind == "download.network"
        job = await service.wait(job.id)
        assert (job.state, job.error) == (JobState.DONE, None)
        assert not hub.hub_faults
    assert_in_cache(folder, cache, WEIGHTS)
