"""The download service: jobs, their tasks and their states. Owns what may be done to a job when.

Everything runs in the background; callers start, watch and steer. The ledger is the memory: after
a kill, ``run`` finds the unfinished jobs there and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from moshid.downloads import probe, resting
from moshid.downloads.cache import Cache
from moshid.downloads.engine import Engine
from moshid.downloads.entries import Entries, Entry, new_id
from moshid.downloads.hub import HubPlace
from moshid.downloads.job import Job, JobError, VerifyReport
from moshid.downloads.ledger import JobRow, Ledger, Want
from moshid.downloads.opening import Parts, open_engine
from moshid.downloads.profiles import PROFILES, Profile, choose
from moshid.downloads.runner import JobRunner, Told, write_refs
from moshid.downloads.site import site_of
from moshid.downloads.space import Space
from moshid.downloads.states import JobState
from moshid.downloads.steering import Steering
from moshid.downloads.tally import Tally
from moshid.downloads.urls import Urls
from moshid.downloads.verify import cached_job, forget_bad, verify_files
from moshid.errors import (
    DownloadNetwork,
    DownloadNotFound,
    InternalError,
    MoshidError,
    NoSuchJob,
    ShuttingDown,
    from_data,
)
from moshid.events import Bus
from moshid.selection import FileSelector
from moshid.settings import Settings

log = logging.getLogger(__name__)


class DownloadService:
    """Downloads from the Hub into the cache; ``urls`` starts those of any URL."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        select: FileSelector,
        *,
        place: HubPlace | None = None,
        profiles: Mapping[str, Profile] = PROFILES,
        parts: Parts | None = None,
    ) -> None:
        self._settings = settings
        self._select = select
        self._place = place or HubPlace.from_environment()
        self._profiles = profiles
        self._parts = parts or Parts()
        self._cache = Cache(self._place.cache_dir)
        self._entries = Entries(bus)
        self._turns = asyncio.Semaphore(self._parts.jobs_at_once)
        self._starting = asyncio.Lock()
        self._engine: Engine | None = None
        self._steering = Steering(self._entries, self._work)
        self.space = Space(
            self._cache, self._entries, self._starting, self._steering, self._running
        )
        self.urls = Urls(self._entries, self._profiles, self._running, self._entered)

    async def run(self, *, started: asyncio.Event) -> None:
        """Serve until cancelled; ``started`` is set when jobs can be started.

        Raises:
            LedgerTooNew, LedgerBroken: the ledger cannot be used.
        """
        async with open_engine(self._settings, self._place, self._cache, self._parts) as engine:
            await self._entries.load(engine)
            try:
                async with asyncio.TaskGroup() as group:
                    self._engine, self._steering.group = engine, group
                    for entry in self._entries.all():
                        if entry.job.state is JobState.QUEUED:
                            self._steering.spawn(entry)
                    group.create_task(self._watch_resting(engine))
                    started.set()
            finally:
                self._engine = self._steering.group = None
                await self._steering.settle()

    async def start(
        self,
        repo: str,
        *,
        revision: str = "main",
        quality: str = "auto",
        files: Sequence[str] | None = None,
        profile: str = "auto",
        chunk_bytes: int | None = None,
        workers: int | None = None,
    ) -> tuple[Job, bool]:
        """Start a job, or add to the one there is for this commit. Returns it, and whether it is
        new. A line that is down is no error: the job waits for it.

        Raises:
            InvalidParams: no such profile, or a number out of range.
            DownloadError: the Hub says no.
        """
        choose(self._profiles, profile, chunk_bytes=chunk_bytes, workers=workers)
        engine = self._running()
        want = Want("" if files else quality, tuple(sorted(files or ())))
        commit = await self._resolve(engine, repo, revision, want.files)
        where = (self._place.endpoint, repo, revision, commit)
        row = JobRow(new_id(), *where, profile, chunk_bytes, workers, JobState.QUEUED)
        return await self._entered(engine, row, want)

    async def wait(self, job_id: str) -> Job:
        """The job when it is done, failed or cancelled. A paused job is waited for."""
        entry = self._entries.get(job_id)
        await entry.finished.wait()
        return entry.job.copy()

    def list(self) -> list[Job]:
        """All jobs, oldest first."""
        return [e.job.copy() for e in self._entries.all()]

    def get(self, id_or_repo: str) -> Job:
        """A job by its id, or the latest of a repository."""
        return self._entries.get(id_or_repo).job.copy()

    async def pause(self, id_or_repo: str) -> Job:
        """Stop for now; everything that came is kept."""
        return await self._steer(id_or_repo, self._steering.pause)

    async def resume(self, id_or_repo: str) -> Job:
        """Go on with a paused, failed or cancelled job."""
        return await self._steer(id_or_repo, self._steering.resume)

    async def cancel(self, id_or_repo: str) -> Job:
        """Give up; partial files that no other job wants are deleted."""
        return await self._steer(id_or_repo, self._steering.cancel)

    async def verify(self, id_or_repo: str, *, repair: bool = False) -> VerifyReport:
        """Read everything again and name what is bad; ``repair`` fetches exactly that.

        Raises:
            NoSuchJob: neither a job nor in the cache.
            MoshidError: what stopped the repair.
        """
        engine = self._running()
        job = await self._known_or_cached(engine, id_or_repo)
        here = await site_of(engine, self._entries.get(job.id).row) if job.id else engine
        report = await verify_files(here, job.repo, job.files)
        if report.ok or not repair:
            return report
        before_bytes = job.bytes_fetched
        if job.id:
            entry = self._entries.get(job.id)
            await self._steering.alone(entry, lambda: self._repair(here, entry, report))
        else:
            paths = [f.path for f in job.files]
            job, _created = await self.start(job.repo, revision=job.commit, files=paths)
        job = await self.wait(job.id)
        if job.error is not None:
            raise from_data(job.error.message, {"kind": job.error.kind, "hint": job.error.hint})
        report = await verify_files(here, job.repo, job.files)
        report.repaired_bytes = job.bytes_fetched - before_bytes
        return report

    def on_disk(self, repo: str, revision: str = "main") -> dict[str, Path]:
        """What the cache holds of a repository: path in it → file."""
        return self._cache.files(repo, revision)

    def _running(self) -> Engine:
        if self._engine is None:
            raise ShuttingDown("the download service is not running")
        return self._engine

    async def _resolve(
        self, engine: Engine, repo: str, revision: str, files: Sequence[str]
    ) -> str | None:
        """The commit, which has ``files``; None while the Hub cannot be reached."""
        try:
            commit = await probe.resolve(engine.hub, repo, revision)
            await probe.check_named(engine.hub, repo, commit, files)
            return commit
        except DownloadNetwork as e:
            log.info("the commit is resolved later", extra={"repo": repo, "why": e.message})
            return None
        except DownloadNotFound as e:
            raise resting.cause(e, offline=self._place.offline) from e

    async def _is_whole(self, entry: Entry) -> bool:
        there = await asyncio.to_thread(self._cache.files, entry.job.repo, entry.job.commit)
        return all(f.path in there for f in entry.job.files)

    async def _known_or_cached(self, engine: Engine, id_or_repo: str) -> Job:
        """The job itself; for a snapshot that another tool made, one without an id."""
        try:
            return self._entries.get(id_or_repo).job
        except NoSuchJob:
            job = await engine.on_disk(cached_job, self._cache, id_or_repo)
            if job is None:
                raise
            return job

    async def _entered(self, engine: Engine, row: JobRow, want: Want) -> tuple[Job, bool]:
        return await self._steering.through(self._enter(engine, row, want))

    async def _enter(self, engine: Engine, row: JobRow, want: Want) -> tuple[Job, bool]:
        """Make or find the job, and add what is wanted now."""
        async with self._starting:
            entry = self._entries.find(row.endpoint, row.repo, row.revision, row.commit_hash)
            created = entry is None
            entry = entry or await self._entries.create(engine, row)
        async with entry.lock:
            self._entries.get(entry.job.id)  # refuses one that was forgotten meanwhile
            await resting.forget_given_up(engine, entry.job)
            await engine.ledger.call(Ledger.add_ref, entry.job.id, row.revision)
            new = await engine.ledger.call(Ledger.add_want, entry.job.id, want)
            if new or entry.job.state is not JobState.DONE or not await self._is_whole(entry):
                await self._steering.queue(engine, entry, restart=new)
            else:
                await write_refs(await site_of(engine, entry.row), entry.job)
            return entry.job.copy(), created

    async def _steer(
        self, id_or_repo: str, change: Callable[[Engine, Entry], Awaitable[None]]
    ) -> Job:
        engine, entry = self._running(), self._entries.get(id_or_repo)
        await self._steering.alone(entry, lambda: change(engine, entry))
        return entry.job.copy()

    async def _repair(self, engine: Engine, entry: Entry, report: VerifyReport) -> None:
        await self._steering.stop(entry)
        entry.job.chunks_corrupt += await forget_bad(engine, report)
        await self._steering.queue(engine, entry)

    async def _work(self, entry: Entry) -> None:
        """The task of one job; whatever stops it becomes its state."""
        engine = self._running()
        try:
            async with self._turns:
                tally = await engine.on_disk(Tally, engine.tallies / entry.job.id)
                with closing(tally):
                    here = await site_of(engine, entry.row)
                    await self._runner(here, entry, tally).run()
        except (MoshidError, BaseExceptionGroup) as e:
            if not entry.stopping:
                await self._rest(engine, entry, resting.cause(e, offline=self._place.offline))
        except Exception:
            log.exception("a download failed", extra={"id": entry.job.id})
            await self._rest(engine, entry, InternalError("the download met an unexpected fault"))
        else:
            await self._entries.move(engine, entry, JobState.DONE)
        finally:
            entry.task = None

    async def _rest(self, engine: Engine, entry: Entry, error: MoshidError) -> None:
        paused = isinstance(error, resting.PAUSING)
        state = JobState.PAUSED if paused else JobState.FAILED
        await self._entries.move(engine, entry, state, JobError.of(error))

    def _runner(self, engine: Engine, entry: Entry, tally: Tally) -> JobRunner:
        row = entry.row
        profile = choose(
            self._profiles, row.profile, chunk_bytes=row.chunk_bytes, workers=row.workers
        )
        told = Told(
            moved=lambda state: self._entries.show(entry, state),
            moving=lambda: self._entries.tell(entry),
            pinned=lambda commit: self._entries.pin(entry, commit),
            progress_s=1.0 / max(self._settings.download_progress_hz, 0.1),
        )
        margin_bytes = self._parts.margin_bytes
        return JobRunner(engine, entry.job, profile, self._select, told, tally, margin_bytes)

    async def _watch_resting(self, engine: Engine) -> None:
        """Let jobs go on that were paused for want of room, a volume or a lock."""
        while True:
            await asyncio.sleep(self._parts.poll_s)
            for entry in self._entries.all():
                if not resting.is_waiting(entry.job) or entry.task is not None:
                    continue
                here = await site_of(engine, entry.row)
                if await resting.may_go_on(here, entry.job, self._parts.margin_bytes):
                    with suppress(NoSuchJob):  # forgotten meanwhile
                        await self._steering.alone(entry, partial(self._go_on, engine, entry))

    async def _go_on(self, engine: Engine, entry: Entry) -> None:
        if resting.is_waiting(entry.job):
            await self._steering.queue(engine, entry)
