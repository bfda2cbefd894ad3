"""A ledger that broke costs neither the job nor the bytes: it is rebuilt, and the job goes on."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.ledger import Ledger
from moshid.downloads.ledger_copy import read_copy
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.damage import DAMAGES
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache
from tests.integration.test_downloads_kill import run_child
from tests.integration.test_downloads_repair import flip_byte

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 5_000_001
CHUNK = QUICK["auto"].chunk_bytes


async def half(tmp_path: Path, hub: DemoHub) -> str:
    """Half of a job, by a service that then stops; the job's id."""
    bus = Bus()
    service = make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus)
    async with running(service):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > SIZE // 2))
        job, _ = await service.start(REPO)
        await moving
    return job.id


def broken_ones(tmp_path: Path) -> list[str]:
    """The ledgers that were set aside."""
    found = (tmp_path / "home").glob("ledger.db.broken-*Z")
    return sorted(p.name for p in found)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_job_goes_on_by_itself(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """At most a chunk a connection is fetched again: what is behind a gap in a chunk."""
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub", rate_bps=10_000_000) as hub:
        job_id = await half(tmp_path, hub)
        DAMAGES[damage](tmp_path / "home" / "ledger.db")
        with caplog.at_level(logging.WARNING, "moshid.downloads.ledger_rebuild"):
            async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
                job = await service.wait(job_id)
    assert (job.state, job.chunks_corrupt) == (JobState.DONE, 0)
    assert job.bytes_fetched - job.bytes_total <= QUICK["auto"].connections_max * CHUNK
    assert job.bytes_refetched <= QUICK["auto"].connections_max * CHUNK
    [kept] = broken_ones(tmp_path)
    [record] = [r for r in caplog.records if r.name.endswith("ledger_rebuild")]
    assert record.__dict__["kept"].endswith(kept)
    assert_in_cache(folder, cache, WEIGHTS, "config.json", "tokenizer.model")


async def test_after_a_kill_the_log_of_the_ledger_is_broken_too(tmp_path: Path) -> None:
    folder, size = make_repo(tmp_path / "hub", 20_000_000), 20_000_000
    home = tmp_path / "home"
    async with DemoHub(tmp_path / "hub", rate_bps=10_000_000) as hub:
        job = await run_child(tmp_path, hub.endpoint, CHUNK, size // 2)
        assert job["state"] == "downloading"
        assert [j["id"] for j in read_copy(home / "ledger.db")["jobs"]] == [job["id"]]
        for piece in ("ledger.db", "ledger.db-wal"):
            DAMAGES["garbage"](home / piece)
        last = await run_child(tmp_path, hub.endpoint, CHUNK, None)
    assert (last["state"], last["id"]) == ("done", job["id"])
    again_bytes = hub.line.sent_bytes - last["bytes_total"]
    assert again_bytes <= QUICK["auto"].connections_max * CHUNK
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS)


async def test_a_page_cache_lost_with_the_ledger_is_found_out(tmp_path: Path) -> None:
    """What is read anew is suspect: a byte that the disk lost costs a few chunks, not the file."""
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    etag = sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    async with DemoHub(tmp_path / "hub", rate_bps=10_000_000) as hub:
        job_id = await half(tmp_path, hub)
        with closing(Ledger(tmp_path / "home" / "ledger.db")) as ledger:
            done = [c.index for c in ledger.chunks(etag) if c.done]
        flip_byte(cache / ".locks" / "moshid" / f"{etag}.part", done[1] * CHUNK + 7)
        DAMAGES["garbage"](tmp_path / "home" / "ledger.db")
        async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
            job = await service.wait(job_id)
    assert (job.state, job.chunks_corrupt) == (JobState.DONE, 1)
    again = job.bytes_fetched - job.bytes_total
    assert again <= (QUICK["auto"].connections_max + 8) * CHUNK
    assert_in_cache(folder, cache, WEIGHTS)


async def test_without_jobs_to_save_a_new_start_finds_the_bytes(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    home = tmp_path / "home"
    async with DemoHub(tmp_path / "hub", rate_bps=10_000_000) as hub:
        await half(tmp_path, hub)
        DAMAGES["garbage"](home / "ledger.db")
        (home / "ledger.json").unlink()
        async with running(make_service(home, hub.endpoint, cache)) as service:
            assert service.list() == []
            job, created = await service.start(REPO)
            assert created
            job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert job.bytes_rescued > SIZE // 2 - QUICK["auto"].connections_max * CHUNK
    assert_in_cache(folder, cache, WEIGHTS)
