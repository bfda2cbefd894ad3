"""Deleting and pruning beside the jobs: who is refused, what is forgotten, what stays."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from moshid.downloads.cache import Cache
from moshid.downloads.job import Job
from moshid.downloads.service import DownloadService
from moshid.downloads.states import JobState
from moshid.errors import ModelInUse, NoSuchJob
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.repos import content

pytestmark = pytest.mark.asyncio

ONE, TWO = "org/one", "org/two"
OLD, NEW = "a" * 40, "b" * 40
CHUNK = QUICK["auto"].chunk_bytes
WEIGHTS = "model.safetensors"
FILES = {
    "config.json": b'{"dim": 256}',
    WEIGHTS: content(3 * CHUNK + 1, seed=7),
    "tokenizer.model": b"abc",
}
NEWER = FILES | {WEIGHTS: content(2 * CHUNK, seed=8)}


@dataclass
class Place:
    """A service, its Hub and its cache."""

    service: DownloadService
    hub: OddHub
    cache: Cache
    bus: Bus

    async def fetched(self, repo: str, revision: str = "main") -> Job:
        """The job of a repository, done."""
        job, _ = await self.service.start(repo, revision=revision)
        job = await self.service.wait(job.id)
        assert job.state is JobState.DONE, job.error
        return job

    async def stuck(self, repo: str) -> Job:
        """A job at work on the weights alone, whose bytes do not come."""
        self.hub.repos[repo].odd = Odd(refuse_bytes=True)
        self.hub.refused.clear()
        job, _ = await self.service.start(repo, files=[WEIGHTS])
        await self.hub.refused.wait()
        return job

    def push(self, repo: str, commit: str, files: dict[str, bytes]) -> None:
        """``main`` is another commit now."""
        there = self.hub.repos[repo]
        there.older = (*there.older, there.commit)
        there.commit, there.files = commit, files


@asynccontextmanager
async def opened(tmp_path: Path) -> AsyncIterator[Place]:
    """A running service, and a Hub with two repositories that hold the same."""
    repos = {name: OddRepo(Odd(), FILES, commit=OLD) for name in (ONE, TWO)}
    cache, bus = tmp_path / "cache", Bus()
    async with (
        OddHub(repos) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        yield Place(service, hub, Cache(cache), bus)


async def test_a_deleted_repository_is_forgotten_and_can_come_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        job, other = await place.fetched(ONE), await place.fetched(TWO)
        told = place.bus.subscribe(["download"])
        would = await place.service.space.delete([ONE], dry_run=True)
        assert place.cache.repo_dir(ONE).exists()
        assert [j.id for j in place.service.list()] == [job.id, other.id]
        assert len(told) == 0
        report = await place.service.space.delete([ONE])
        assert would is not None
        assert report is not None
        assert (would.dry_run, report.dry_run) == (True, False)
        assert report.freed_bytes == would.freed_bytes >= job.bytes_total
        (gone,) = report.deleted
        assert (gone.repo, gone.revision, gone.bytes) == (ONE, OLD, job.bytes_total)
        assert not place.cache.repo_dir(ONE).exists()
        assert [j.id for j in place.service.list()] == [other.id]
        event = (await told.take()).event.data
        assert (event["job"]["id"], event["forgotten"]) == (job.id, True)
        assert await place.service.space.delete([ONE]) is None
        again = await place.fetched(ONE)
        assert again.id != job.id
        assert again.bytes_fetched == 0, "the other repository has the same"
        assert again.bytes_rescued == again.bytes_total
        assert (await place.service.verify(ONE)).ok
        assert (await place.service.verify(TWO)).ok
    assert not scan_cache_dir(place.cache.root).warnings


async def test_what_is_forgotten_stays_forgotten_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fetched(ONE)
        await place.service.space.delete([ONE])
    async with opened(tmp_path) as place:
        assert place.service.list() == []


async def test_a_running_job_is_refused_and_unharmed(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        job = await place.stuck(ONE)
        for dry_run in (True, False):
            with pytest.raises(ModelInUse, match="being downloaded"):
                await place.service.space.delete([ONE, TWO], dry_run=dry_run)
        place.hub.repos[ONE].odd = Odd()
        await place.service.pause(job.id)
        await place.service.resume(job.id)
        assert (await place.service.wait(job.id)).state is JobState.DONE


async def test_a_paused_job_goes_with_its_partial_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        job = await place.stuck(ONE)
        await place.service.pause(job.id)
        waiting = asyncio.create_task(place.service.wait(job.id))
        told = asyncio.create_task(until(place.bus, lambda j: j.state is JobState.CANCELLED))
        (partial,) = (place.cache.root / ".locks" / "moshid").iterdir()
        report = await place.service.space.delete([ONE])
        assert report is not None
        (file,) = report.files
        assert place.cache.root / file.path == partial
        assert 0 < file.bytes == report.freed_bytes
        assert not partial.exists()
        assert not place.cache.repo_dir(ONE).exists()
        assert (await waiting).state is JobState.CANCELLED
        assert (await told).id == job.id
        assert place.service.list() == []


async def test_a_partial_file_that_another_job_wants_stays(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        for repo in (ONE, TWO):
            await place.service.pause((await place.stuck(repo)).id)
        report = await place.service.space.delete([ONE])
        assert report is not None
        assert report.files == []
        assert len(list((place.cache.root / ".locks" / "moshid").iterdir())) == 1


async def test_a_change_that_waits_for_the_deletion_finds_no_job(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        job = await place.stuck(ONE)
        await place.service.pause(job.id)
        deleting = asyncio.create_task(place.service.space.delete([ONE]))
        told = place.bus.subscribe(["download"])
        await told.take()  # the deletion is under way, and holds the job
        with pytest.raises(NoSuchJob):
            await place.service.resume(job.id)
        assert await deleting is not None
        assert place.service.list() == []


async def test_a_start_waits_for_the_deletion_and_begins_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        job = await place.stuck(ONE)
        await place.service.pause(job.id)
        told = place.bus.subscribe(["download"])
        deleting = asyncio.create_task(place.service.space.delete([ONE]))
        await told.take()  # the deletion is under way
        place.hub.repos[ONE].odd = Odd()
        again, created = await place.service.start(ONE, revision=OLD)
        assert (created, again.id != job.id, deleting.done()) == (True, True, True)
        assert (await place.service.wait(again.id)).state is JobState.DONE
        assert (await place.service.verify(ONE)).ok
        assert place.cache.snapshot(ONE, OLD).exists()


async def test_a_file_in_use_or_written_by_others_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fetched(ONE)
        weights = place.service.on_disk(ONE)[WEIGHTS]
        with pytest.raises(ModelInUse, match="loaded") as caught:
            await place.service.space.delete([ONE], in_use=[weights])
        assert caught.value.to_data()["repo"] == ONE
        etag = place.cache.etag_of(weights)
        lock = place.cache.root / ".locks" / place.cache.repo_dir(ONE).name / f"{etag}.lock"
        with lock.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(ModelInUse, match="another program"):
                await place.service.space.delete([ONE])
        assert weights.exists()
        assert await place.service.space.delete([ONE], in_use=[tmp_path / "x"]) is not None


async def test_prune_takes_old_revisions_and_forgets_their_jobs(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        old = await place.fetched(ONE)
        place.push(ONE, NEW, NEWER)
        new = await place.fetched(ONE)
        would = await place.service.space.prune([ONE, TWO], dry_run=True)
        assert [j.id for j in place.service.list()] == [old.id, new.id]
        report = await place.service.space.prune([ONE, TWO])
        assert [(d.repo, d.revision) for d in report.deleted] == [(ONE, OLD)]
        assert report.freed_bytes == would.freed_bytes == len(FILES[WEIGHTS])
        assert [j.id for j in place.service.list()] == [new.id]
        assert not place.cache.snapshot(ONE, OLD).exists()
        assert (await place.service.verify(ONE)).ok
        assert (await place.service.space.prune([ONE, TWO])).freed_bytes == 0


async def test_prune_takes_what_a_killed_prune_left(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fetched(ONE)
        left = place.cache.repo_dir(ONE) / "blobs" / ("e" * 64)
        left.write_bytes(b"x" * 5000)
        os.utime(left, (0, 0))
        report = await place.service.space.prune([ONE, TWO])
        assert [f.bytes for f in report.files] == [5000]
        assert not left.exists()
        assert (await place.service.verify(ONE)).ok


async def test_prune_leaves_what_is_asked_for_or_in_use(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fetched(ONE, revision=OLD)
        await place.fetched(TWO)
        for repo in (ONE, TWO):
            place.push(repo, NEW, NEWER)
            await place.fetched(repo)
        loaded = place.cache.snapshot(TWO, OLD) / WEIGHTS
        report = await place.service.space.prune([ONE, TWO], in_use=[loaded])
        assert report.deleted == []
        report = await place.service.space.prune([ONE])
        assert report.deleted == [], "a commit that was asked for by name"
        report = await place.service.space.prune([TWO])
        assert [d.repo for d in report.deleted] == [TWO]


async def test_prune_leaves_the_repository_of_a_running_job(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fetched(ONE)
        place.push(ONE, NEW, NEWER)
        await place.fetched(ONE)
        place.push(ONE, "c" * 40, FILES | {WEIGHTS: content(CHUNK, seed=9)})
        job = await place.stuck(ONE)
        assert (await place.service.space.prune([ONE])).deleted == []
        await place.service.cancel(job.id)
        report = await place.service.space.prune([ONE])
        assert [d.revision for d in report.deleted] == [OLD]


async def test_prune_takes_partial_files_of_jobs_that_are_over(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.fetched(ONE)
        place.push(TWO, NEW, NEWER)
        job = await place.stuck(TWO)
        job = await place.service.pause(job.id)
        left = place.cache.partial(job.files[0].digest)
        left.write_bytes(b"x" * 5000)
        assert (await place.service.space.prune([ONE, TWO])).files == [], "the other job wants it"
        await place.service.cancel(job.id)
        left.write_bytes(b"x" * 5000)
        report = await place.service.space.prune([ONE, TWO])
        assert [(f.path, f.bytes) for f in report.files] == [(f".locks/moshid/{left.name}", 5000)]
        assert not left.exists()
        assert (await place.service.verify(ONE)).ok
