"""Reads again what a job brought, or what another tool left in the cache, and has the bad parts
fetched again. Owns the order verify, repair, verify.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from moshid.downloads.cache import Cache
from moshid.downloads.engine import Engine, check_present
from moshid.downloads.entries import Entries, Entry
from moshid.downloads.job import Job, VerifyReport
from moshid.downloads.site import site_of
from moshid.downloads.steering import Steering
from moshid.downloads.verify import ask_digests, cached_job, forget_bad, verify_job
from moshid.errors import NoSuchJob, from_data


class Start(Protocol):
    """Starts the download of files at a commit."""

    async def __call__(
        self, repo: str, *, revision: str, files: Sequence[str]
    ) -> tuple[Job, bool]: ...


class Mending:
    """Verifies and repairs. ``wait``: the end of a job, by its id."""

    def __init__(
        self,
        cache: Cache,
        entries: Entries,
        steering: Steering,
        engine: Callable[[], Engine],
        start: Start,
        wait: Callable[[str], Awaitable[Job]],
    ) -> None:
        self._cache = cache
        self._entries = entries
        self._steering = steering
        self._engine = engine
        self._start = start
        self._wait = wait

    async def verify(self, id_or_repo: str, *, repair: bool) -> VerifyReport:
        """Read everything again and name what is bad; ``repair`` fetches exactly that, and lets the
        job go on to its end.

        Raises:
            NoSuchJob: neither a job nor in the cache.
            MoshidError: what stopped the repair.
        """
        engine = self._engine()
        job = await self._known_or_cached(engine, id_or_repo)
        here = await site_of(engine, self._entries.get(job.id).row) if job.id else engine
        await check_present(here)
        report = await verify_job(here, job)
        if not (repair and report.is_damaged()):
            return report
        before_bytes, before_chunks = job.bytes_fetched, job.chunks_corrupt
        if job.id:
            entry = self._entries.get(job.id)
            await self._steering.alone(entry, lambda: self._repair(here, entry, report))
        else:
            paths = [f.path for f in job.files]
            job, _created = await self._start(job.repo, revision=job.commit, files=paths)
        job = await self._wait(job.id)
        if job.error is not None:
            raise from_data(job.error.message, {"kind": job.error.kind, "hint": job.error.hint})
        report = (await verify_job(here, job)).after(report)
        report.repaired_bytes = job.bytes_fetched - before_bytes
        report.repaired_chunks = job.chunks_corrupt - before_chunks
        return report

    async def _known_or_cached(self, engine: Engine, id_or_repo: str) -> Job:
        """The job itself; for a snapshot that another tool made, one without an id."""
        try:
            return self._entries.get(id_or_repo).job
        except NoSuchJob:
            job = await engine.on_disk(cached_job, self._cache, id_or_repo)
            if job is not None:
                await ask_digests(engine, job)
            if job is None or not job.files:
                raise
            return job

    async def _repair(self, engine: Engine, entry: Entry, report: VerifyReport) -> None:
        await self._steering.stop(entry)
        entry.job.chunks_corrupt += await forget_bad(engine, report)
        await self._steering.queue(engine, entry)
