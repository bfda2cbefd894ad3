"""Whole download jobs against the loopback Hub, on good lines and bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from aiohttp import web
from huggingface_hub import hf_hub_download, scan_cache_dir

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job
from moshid.downloads.states import FileState, JobState
from moshid.errors import (
    DownloadGated,
    DownloadNotFound,
    DownloadOffline,
    DownloadUnauthorized,
    InvalidParams,
    LedgerBroken,
    NoSuchJob,
    WrongJobState,
)
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.repos import REPO, make_repo

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 3_000_001


def assert_in_cache(folder: Path, cache: Path, *names: str) -> None:
    """huggingface_hub, offline, finds these files, byte for byte, and nothing to warn of."""
    for name in names:
        got = Path(hf_hub_download(REPO, name, cache_dir=cache, local_files_only=True))
        assert got.read_bytes() == (folder / name).read_bytes()
        assert got.is_symlink()
        assert got.resolve().parent == (cache / "models--org--parrot" / "blobs").resolve()
    info = scan_cache_dir(cache)
    assert not info.warnings
    assert [r.repo_id for r in info.repos] == [REPO]


def leftovers(cache: Path) -> list[Path]:
    """What the engine left beside the cache proper."""
    return list((cache / ".locks" / "moshid").iterdir())


def weights_partial(cache: Path) -> Path:
    """The partial file of the weights, which are the largest."""
    return max(leftovers(cache), key=lambda p: p.stat().st_size)


async def test_a_job_ends_in_the_cache_of_huggingface_hub(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    bus = Bus()
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        events = bus.subscribe(["download"])
        job, created = await service.start(REPO)
        assert created
        job = await service.wait(job.id)
        assert job.state is JobState.DONE
        assert job.error is None
        assert job.bytes_total == job.bytes_done == job.bytes_fetched > SIZE
        assert job.bytes_refetched == job.bytes_rescued == 0
        assert {f.path for f in job.files} == {"config.json", WEIGHTS, "tokenizer.model"}
        assert all(f.state is FileState.DONE for f in job.files)
        assert all(f.chunks_done == f.chunks_total > 0 for f in job.files)
        assert len(events) > 3
        assert set(service.on_disk(REPO)) == {f.path for f in job.files}
        assert bus.snapshot(["download"])["download"]["jobs"] == [job.to_json()]
    assert_in_cache(folder, cache, "config.json", WEIGHTS, "tokenizer.model")
    assert leftovers(cache) == []
    async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
        assert service.list() == [job], "the ledger remembers all of it"


async def test_starting_again_is_the_same_job_and_fetches_nothing(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", SIZE)
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        sent_bytes = hub.line.sent_bytes
        again, created = await service.start(REPO)
        assert (again.id, created, again.state) == (job.id, False, JobState.DONE)
        more, created = await service.start(REPO, files=["sub/notes.txt"])
        assert (more.id, created) == (job.id, False)
        more = await service.wait(more.id)
        assert {f.path for f in more.files} >= {WEIGHTS, "sub/notes.txt"}
        assert hub.line.sent_bytes - sent_bytes < 100
        assert service.get(REPO).id == job.id


async def test_cuts_cost_almost_nothing(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    cuts = range(300_000, SIZE, 300_000)
    async with (
        DemoHub(tmp_path / "hub", cut_after_bytes=cuts, rate_bps=10_000_000) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert job.state is JobState.DONE
        assert hub.line.cuts_done >= 9
        assert job.retries >= 9
        assert job.bytes_refetched == 0
    assert_in_cache(folder, cache, WEIGHTS)


async def test_signed_urls_that_expire_are_renewed(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with (
        DemoHub(tmp_path / "hub", url_ttl_s=0.2, rate_bps=3_000_000) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert job.state is JobState.DONE
        heads = [s for s in hub.requests if s.method == "HEAD" and s.path.endswith(WEIGHTS)]
        assert 3 <= len(heads) < 30
    assert_in_cache(folder, cache, WEIGHTS)


async def test_pause_keeps_and_resume_goes_on(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    bus = Bus()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_000_000))
        job, _ = await service.start(REPO)
        await moving
        job = await service.pause(job.id)
        assert job.state is JobState.PAUSED
        assert job.error is None
        assert weights_partial(cache).stat().st_size == SIZE
        assert (await service.pause(job.id)).state is JobState.PAUSED
        await service.resume(job.id)
        job = await service.wait(job.id)
        assert job.bytes_refetched == 0
        assert job.bytes_fetched == job.bytes_total
        with pytest.raises(WrongJobState):
            await service.pause(job.id)
    assert_in_cache(folder, cache, WEIGHTS)


async def test_a_stopped_service_goes_on_by_itself(tmp_path: Path) -> None:
    folder, cache, home = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", tmp_path / "home"
    bus = Bus()
    async with DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub:
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_000_000))
        async with running(make_service(home, hub.endpoint, cache, bus=bus)) as service:
            job, _ = await service.start(REPO)
            await moving
        async with running(make_service(home, hub.endpoint, cache)) as service:
            job = await service.wait(job.id)
            assert job.state is JobState.DONE
            assert job.bytes_refetched == 0
            assert hub.line.sent_bytes < job.bytes_total * 1.3
    assert_in_cache(folder, cache, WEIGHTS)


async def test_cancel_deletes_the_partial(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", SIZE)
    cache, bus = tmp_path / "cache", Bus()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_000_000))
        job, _ = await service.start(REPO)
        await moving
        job = await service.cancel(job.id)
        assert job.state is JobState.CANCELLED
        assert leftovers(cache) == []
        assert job.bytes_done < 10_000
        assert (await service.wait(job.id)).state is JobState.CANCELLED
        again, created = await service.start(REPO)
        assert (again.id, created) == (job.id, False)
        assert (await service.wait(job.id)).state is JobState.DONE


async def test_a_file_in_the_cache_is_used_as_it_is(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        await asyncio.to_thread(
            hf_hub_download, REPO, WEIGHTS, endpoint=hub.endpoint, cache_dir=cache
        )
        sent_bytes = hub.line.sent_bytes
        async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
            job, _ = await service.start(REPO, files=[WEIGHTS])
            job = await service.wait(job.id)
        assert (job.bytes_fetched, job.bytes_rescued) == (0, SIZE)
        assert hub.line.sent_bytes - sent_bytes < 1000
    assert_in_cache(folder, cache, WEIGHTS)


async def test_a_damaged_file_in_the_cache_is_replaced_not_written_through(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        got = await asyncio.to_thread(
            hf_hub_download, REPO, WEIGHTS, endpoint=hub.endpoint, cache_dir=cache
        )
        blob = Path(got).resolve()
        shared = tmp_path / "shared-store"
        blob.rename(shared)
        blob.symlink_to(shared)
        shared.write_bytes(b"\0" * SIZE)
        async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
            job, _ = await service.start(REPO, files=[WEIGHTS])
            assert (await service.wait(job.id)).state is JobState.DONE
    assert shared.read_bytes() == b"\0" * SIZE
    assert_in_cache(folder, cache, WEIGHTS)


async def test_everything_is_fetched_where_nobody_knows_what_is_needed(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", 1000), tmp_path / "cache"
    (folder / "config.json").unlink()
    (folder / "empty.txt").touch()
    (folder / "twin.txt").write_bytes((folder / "sub" / "notes.txt").read_bytes())
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert job.state is JobState.DONE
        assert job.bytes_done == job.bytes_total == job.bytes_fetched + job.bytes_rescued
    names = ["sub/notes.txt", "twin.txt", "empty.txt", WEIGHTS, "tokenizer.model"]
    assert_in_cache(folder, cache, *names)


async def test_real_answers_end_the_start(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", 1000)
    make_repo(tmp_path / "hub", 1000, repo="org/gated")
    async with (
        DemoHub(tmp_path / "hub", gated=["org/gated"]) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        for repo, revision, error in [
            ("org/none", "main", DownloadNotFound),
            ("no repository", "main", DownloadNotFound),
            (REPO, "v9", DownloadNotFound),
            ("org/gated", "main", DownloadGated),
        ]:
            with pytest.raises(error):
                await service.start(repo, revision=revision)
        with pytest.raises(InvalidParams, match="no profile"):
            await service.start(REPO, profile="warp")
        with pytest.raises(InvalidParams):
            await service.start(REPO, chunk_bytes=1)
        with pytest.raises(NoSuchJob):
            service.get("nothing")
        with pytest.raises(DownloadNotFound, match=r"no none\.bin"):
            await service.start(REPO, files=["none.bin"])
        assert service.list() == []


async def test_the_token_goes_to_the_hub_and_nowhere_else(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", 1000), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub", token="hf_right") as hub:
        bad = make_service(tmp_path / "home", hub.endpoint, cache, token="hf_wrong")
        async with running(bad) as service:
            with pytest.raises(DownloadUnauthorized):
                await service.start(REPO)
        good = make_service(tmp_path / "home", hub.endpoint, cache, token="hf_right")
        async with running(good) as service:
            job, _ = await service.start(REPO)
            assert (await service.wait(job.id)).state is JobState.DONE
        assert not any(s.authorized for s in hub.requests if s.server == "cdn")
    assert_in_cache(folder, cache, WEIGHTS)


async def test_a_line_that_is_down_is_waited_for(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with DemoHub(tmp_path / "hub") as hub:
        port = hub.port
    service = make_service(tmp_path / "home", f"http://127.0.0.1:{port}", cache, bus=bus)
    async with running(service):
        trouble = asyncio.create_task(until(bus, lambda j: j.error is not None))
        job, created = await service.start(REPO)
        assert created
        shown = await trouble
        assert shown.error is not None
        assert (shown.error.kind, shown.error.retryable) == ("download.network", True)
        again, created = await service.start(REPO)
        assert (again.id, created) == (job.id, False)
        async with DemoHub(tmp_path / "hub", port=port):
            job = await service.wait(job.id)
        assert job.state is JobState.DONE
        assert len(job.commit) == 40
    assert_in_cache(folder, cache, WEIGHTS)


async def test_offline_uses_the_cache_or_says_so(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", 1000), tmp_path / "cache"
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
    offline = make_service(tmp_path / "home2", "http://127.0.0.1:9", cache, offline=True)
    async with running(offline) as service:
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert (job.state, job.bytes_fetched) == (JobState.DONE, 0)
        with pytest.raises(DownloadOffline):
            await service.start("org/other")
        with pytest.raises(DownloadOffline, match=r"notes\.txt"):
            await service.start(REPO, files=["sub/notes.txt"])
    assert_in_cache(folder, cache, WEIGHTS)


async def test_another_programs_database_is_no_ledger(tmp_path: Path) -> None:
    service = make_service(tmp_path / "home", "http://127.0.0.1:9", tmp_path / "cache")
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as db:
        db.execute("CREATE TABLE theirs (x)")
    with pytest.raises(LedgerBroken, match="no download ledger"):
        async with running(service):
            pass


class Held(DemoHub):
    """Gives three ranges of the weights, and the rest once it may ``go`` on."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.go = asyncio.Event()
        self._asked = 0

    async def _object(self, request: web.Request) -> web.StreamResponse:
        self._asked += self._by_sha256[request.match_info["sha256"]].size == SIZE
        if self._asked > 3:
            await self.go.wait()
        return await super()._object(request)


async def test_two_homes_share_one_partial_in_turn(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    first_bus, second_bus = Bus(), Bus()
    async with (
        Held(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "a", hub.endpoint, cache, bus=first_bus)) as first,
        running(make_service(tmp_path / "b", hub.endpoint, cache, bus=second_bus)) as second,
    ):
        moving = asyncio.create_task(until(first_bus, lambda j: j.bytes_done > 500_000))
        locked = asyncio.create_task(until(second_bus, _is_locked))
        job_a, _ = await first.start(REPO)
        await moving
        job_b, _ = await second.start(REPO)
        await locked
        hub.go.set()
        done_a, done_b = await asyncio.gather(first.wait(job_a.id), second.wait(job_b.id))
        assert done_a.state is done_b.state is JobState.DONE
        assert done_b.bytes_fetched < 10_000
        assert done_b.bytes_rescued >= SIZE
    assert_in_cache(folder, cache, WEIGHTS)


def _is_locked(job: Job) -> bool:
    return job.error is not None and job.error.kind == "download.locked"
