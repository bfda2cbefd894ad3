"""The download service: jobs, their tasks and their states. Owns what may be done to a job when.

Everything runs in the background; callers start, watch and steer. The ledger is the memory: after
a kill, ``run`` finds the unfinished jobs there and goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from moshid.downloads import probe, resting
from moshid.downloads.controls import Controls
from moshid.downloads.donors import check_sources
from moshid.downloads.engine import Engine
from moshid.downloads.entries import Entries, Entry, new_id
from moshid.downloads.hub import HubPlace
from moshid.downloads.job import Job, VerifyReport
from moshid.downloads.ledger import JobRow, Ledger, Want
from moshid.downloads.limits import Limits
from moshid.downloads.manner import Manner
from moshid.downloads.mending import Mending
from moshid.downloads.names import check_names
from moshid.downloads.opening import Parts, open_engine, open_line
from moshid.downloads.profiles import PROFILES, Profile, choose
from moshid.downloads.runner import write_refs
from moshid.downloads.site import site_of
from moshid.downloads.space import Space
from moshid.downloads.standing import lacking
from moshid.downloads.states import JobState
from moshid.downloads.steering import Steering
from moshid.downloads.terms import AS_THEY_ARE, Terms
from moshid.downloads.urls import Urls
from moshid.downloads.work import Work
from moshid.errors import (
    DownloadNetwork,
    DownloadNotFound,
    MoshidError,
    NoSuchJob,
    ShuttingDown,
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
        self._place = place or HubPlace.from_environment()
        self._profiles = profiles
        self._parts = parts or Parts()
        self._cache = self._parts.cache(self._place.cache_dir)
        self._entries = Entries(bus)
        limits = Limits.of_settings(settings)
        self._line = open_line(limits, self._parts)
        self._starting = asyncio.Lock()
        self._engine: Engine | None = None
        self._steering = Steering(self._entries, self._work)
        self.space = Space(
            self._cache, self._entries, self._starting, self._steering, self._running
        )
        self._work_on = Work(
            entries=self._entries,
            line=self._line,
            select=select,
            profiles=profiles,
            progress_s=1.0 / max(settings.download_progress_hz, 0.1),
            margin_bytes=self._parts.margin_bytes,
            offline=self._place.offline,
        ).on
        self._mending = Mending(
            self._cache, self._entries, self._steering, self._running, self.start, self.wait
        )
        self.controls = Controls(limits, self._entries, self._line, self._running)
        self.urls = Urls(
            self._entries, self._profiles, settings.download_profile, self._running, self._entered
        )

    async def run(self, *, started: asyncio.Event) -> None:
        """Serve until cancelled; ``started`` is set when jobs can be started.

        Raises:
            LedgerTooNew, LedgerBroken: the ledger cannot be used.
        """
        async with open_engine(self._settings, self._place, self._cache, self._parts) as engine:
            await self._entries.load(engine)
            await self.controls.load(engine)
            try:
                async with asyncio.TaskGroup() as group:
                    self._engine, self._steering.group = engine, group
                    for entry in self._entries.all():
                        if entry.job.state is JobState.QUEUED:
                            self._steering.spawn(entry)
                    group.create_task(self._watch_resting(engine))
                    group.create_task(self._line.run())
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
        profile: str | None = None,
        chunk_bytes: int | None = None,
        workers: int | None = None,
        terms: Terms = AS_THEY_ARE,
    ) -> tuple[Job, bool]:
        """Start a job, or add to the one there is for this commit. Returns it, and whether it is
        new. A line that is down is no error: the job waits for it. Profile, chunk size and workers
        that are named count for the job from now on; files that are begun keep their chunks.

        Raises:
            InvalidParams: no such profile, a number out of range, a name or source that is none.
            DownloadError: the Hub says no.
        """
        manner = Manner(profile, chunk_bytes, workers)
        profile = profile or self._settings.download_profile
        choose(self._profiles, profile, chunk_bytes=chunk_bytes, workers=workers)
        check_names(revision, files or ())
        engine = self._running()
        want = Want("" if files else quality, tuple(sorted(files or ())))
        commit = await self._resolve(engine, repo, revision, want.files)
        where = (self._place.endpoint, repo, revision, commit)
        row = JobRow(new_id(), *where, profile, chunk_bytes, workers, JobState.QUEUED)
        return await self._entered(engine, row, want, replace(terms, manner=manner))

    async def wait(self, job_id: str) -> Job:
        """The job when it is done, failed or cancelled. A paused job is waited for; of one that
        becomes part of another, the other."""
        entry = await self._entries.get(job_id).end()
        return entry.job.copy()

    def knows(self, job_id: str) -> bool:
        """Whether this is a job's id, or that of one which became part of another."""
        return self._entries.by_id(job_id) is not None

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
        return await self._mending.verify(id_or_repo, repair=repair)

    @property
    def cache_dir(self) -> Path:
        """The Hub cache."""
        return self._place.cache_dir

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
        """Whether all is in the cache, as far as sizes tell; what a URL gave is looked at anew."""
        if entry.job.output is not None:
            return False
        return not await lacking(self._running(), entry.job)

    async def _entered(
        self, engine: Engine, row: JobRow, want: Want, terms: Terms
    ) -> tuple[Job, bool]:
        sources = await asyncio.to_thread(check_sources, terms.sources)
        terms = replace(terms, sources=tuple(map(str, sources)))
        return await self._steering.through(self._enter(engine, row, want, terms))

    async def _enter(
        self, engine: Engine, row: JobRow, want: Want, terms: Terms
    ) -> tuple[Job, bool]:
        """Make or find the job, and add what is wanted now."""
        async with self._starting:
            entry = self._entries.find(row.endpoint, row.repo, row.revision, row.commit_hash)
            created = entry is None
            if entry is None:
                entry = await self._entries.create(engine, row)
                await self._entries.trim(engine)
        async with entry.lock:
            if self._entries.get(entry.job.id) is not entry:  # refuses a forgotten one
                return await self._enter(engine, row, want, terms)
            await resting.forget_given_up(engine, entry.job)
            more = await self._entries.agree(engine, entry, terms)
            await engine.ledger.call(Ledger.add_ref, entry.job.id, row.revision)
            new = await engine.ledger.call(Ledger.add_want, entry.job.id, want)
            if new or entry.job.state is not JobState.DONE or not await self._is_whole(entry):
                await self._steering.queue(engine, entry, restart=new or more)
            else:
                await write_refs(await site_of(engine, entry.row), entry.job)
            return entry.job.copy(), created

    async def _steer(
        self, id_or_repo: str, change: Callable[[Engine, Entry], Awaitable[None]]
    ) -> Job:
        engine, entry = self._running(), self._entries.get(id_or_repo)
        await self._steering.alone(entry, lambda: change(engine, entry))
        return entry.job.copy()

    async def _work(self, entry: Entry) -> None:
        await self._work_on(self._running(), entry)

    async def _watch_resting(self, engine: Engine) -> None:
        """Let jobs go on that were paused for want of room, a volume or a lock."""
        while True:
            await asyncio.sleep(self._parts.poll_s)
            for entry in self._entries.all():
                if not resting.is_waiting(entry.job) or entry.task is not None:
                    continue
                try:
                    await self._steering.alone(entry, partial(self._go_on, engine, entry))
                except NoSuchJob:
                    log.info("a paused job was forgotten", extra={"id": entry.job.id})
                except (MoshidError, OSError) as e:  # the next look may be luckier
                    log.warning("a paused job cannot go on", extra={"why": str(e)})

    async def _go_on(self, engine: Engine, entry: Entry) -> None:
        here = await site_of(engine, entry.row)
        ready = await resting.may_go_on(here, entry.job, self._parts.margin_bytes)
        if ready and resting.is_waiting(entry.job):
            await self._steering.queue(engine, entry)
