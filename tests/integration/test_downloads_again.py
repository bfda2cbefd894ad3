"""Starting what there is already: in another manner, or by another name of the same commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.ledger import Ledger
from moshid.downloads.states import JobState
from moshid.errors import WrongJobState
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.repos import REPO, content, make_repo
from tests.integration.test_downloads import assert_in_cache

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 3_000_001
CHUNK = QUICK["auto"].chunk_bytes
FILES = {"config.json": b"{}", WEIGHTS: content(3 * CHUNK + 1, seed=7), "tokenizer.model": b"abc"}


async def test_a_new_manner_counts_from_then_on(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with DemoHub(tmp_path / "hub", rate_bps=3_000_000) as hub:
        service = make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)
        async with running(service):
            moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 600_000))
            job, _ = await service.start(REPO, files=[WEIGHTS], workers=1)
            before = await moving
            single = asyncio.create_task(until(bus, lambda j: j.connections == 5))
            again, created = await service.start(
                REPO, files=[WEIGHTS], profile="robust", workers=5, chunk_bytes=CHUNK // 2
            )
            assert (again.id, created, again.profile) == (job.id, False, "robust")
            await single
            same, _ = await service.start(REPO, files=[WEIGHTS])
            assert same.profile == "robust", "who names nothing changes nothing"
            job = await service.wait(job.id)
        assert (job.state, job.profile) == (JobState.DONE, "robust")
        assert job.files[0].chunks_total == -(-SIZE // CHUNK), "a begun file keeps its plan"
        assert before.bytes_done > 0
        assert job.bytes_refetched == 0
        async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
            assert service.get(job.id).profile == "robust", "over a restart, too"
    ledger = Ledger(tmp_path / "home" / "ledger.db")
    (row,) = ledger.jobs()
    ledger.close()
    assert (row.profile, row.workers, row.chunk_bytes) == ("robust", 5, CHUNK // 2)
    assert_in_cache(folder, cache, WEIGHTS)


async def test_a_new_chunk_size_counts_where_nothing_is_there_yet(tmp_path: Path) -> None:
    repo = OddRepo(Odd(refuse_bytes=True), FILES)
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await hub.refused.wait()
        await service.pause(job.id)
        repo.odd = Odd()
        await service.start(REPO, files=[WEIGHTS], chunk_bytes=CHUNK // 2)
        job = await service.wait(job.id)
        assert job.state is JobState.DONE
        assert job.files[0].chunks_total == 7


async def test_a_done_job_only_notes_the_manner(tmp_path: Path) -> None:
    async with (
        OddHub({REPO: OddRepo(Odd(), FILES)}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        asked = hub.seen["GET"]
        job, _ = await service.start(REPO, profile="parallel")
        assert (job.state, job.profile) == (JobState.DONE, "parallel")
        assert hub.seen["GET"] == asked


async def test_what_is_gone_from_the_cache_comes_again(tmp_path: Path) -> None:
    """A done job tells what it brought, not what others deleted since; a start looks."""
    async with (
        OddHub({REPO: OddRepo(Odd(), FILES)}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        service.on_disk(REPO)[WEIGHTS].resolve().unlink()
        assert service.get(job.id).state is JobState.DONE
        again, created = await service.start(REPO)
        assert (again.id, created, again.state) == (job.id, False, JobState.QUEUED)
        assert (await service.wait(job.id)).state is JobState.DONE
        assert service.on_disk(REPO).keys() == FILES.keys()


async def test_who_waits_for_an_absorbed_job_gets_the_others_end(tmp_path: Path) -> None:
    """Two revisions that turn out to be one commit: started with the line down, so unresolved."""
    bus = Bus()
    repo = OddRepo(Odd(refuse=(503, {})), FILES, revisions=("main", "v1"))
    async with OddHub({REPO: repo}) as hub:
        home, cache = tmp_path / "home", tmp_path / "cache"
        async with running(make_service(home, hub.endpoint, cache, bus=bus)) as service:
            one, _ = await service.start(REPO, revision="main")
            two, _ = await service.start(REPO, revision="v1")
            assert one.id != two.id
            events = bus.subscribe(["download"])
            waits = [asyncio.create_task(service.wait(job.id)) for job in (one, two)]
            repo.odd = Odd()
            ends = [await w for w in waits]
            assert [e.state for e in ends] == [JobState.DONE] * 2
            (survivor,) = service.list()
            assert {e.id for e in ends} == {survivor.id}
            gone = ({one.id, two.id} - {survivor.id}).pop()
            assert service.knows(gone)
            assert service.get(gone).id == survivor.id
            assert (await service.wait(gone)).id == survivor.id
            with pytest.raises(WrongJobState, match="done"):
                await service.pause(gone)
            told = [(await events.take()).event.data for _ in range(len(events))]
            of_it = [data for data in told if data["job"]["id"] == gone]
            assert of_it[-1]["absorbed_by"] == survivor.id
            assert not any("absorbed_by" in data for data in of_it[:-1])
        async with running(make_service(home, hub.endpoint, cache)) as service:
            assert service.get(gone).id == survivor.id, "a client that comes back finds it"
    for revision in ("main", "v1"):
        assert (cache / "models--org--parrot" / "refs" / revision).exists()
