"""One run of one job: probe, bring each blob in, publish, write the ref. Owns that order.

Raises what stops the job; the service decides what state that means.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moshid.downloads.allowance import Unlimited
from moshid.downloads.backoff import Outage
from moshid.downloads.digests import file_matches
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.job import Job, JobFile
from moshid.downloads.ledger import FileRow, Ledger
from moshid.downloads.meter import Meter
from moshid.downloads.pace import Gate
from moshid.downloads.plan import bytes_done
from moshid.downloads.probe import Prober
from moshid.downloads.profiles import Profile
from moshid.downloads.reach import Reach
from moshid.downloads.remote import Resized
from moshid.downloads.route import Route
from moshid.downloads.source import Patience, Source
from moshid.downloads.stall import Stalls
from moshid.downloads.states import FileState, JobState, of_files
from moshid.downloads.tally import Tally
from moshid.downloads.transfer import Transfer
from moshid.downloads.tuner import Tuner
from moshid.downloads.volume import allocated_bytes, room_for, stat_of
from moshid.errors import DiskFull, DownloadWaits, VolumeMissing
from moshid.selection import FileSelector

BLOBS_AT_ONCE: Final = 4
TUNE_S: Final = 2.0
ASK_AGAIN_MAX_S: Final = 5.0
"""While nobody answers, one asks for all, so that it may ask this often."""

SCOUTS_SHARE: Final = 0.5
"""A scout follows the last one after such a part of the first wait: it asks for one connection, not
for a server's work."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """Whom a run tells: ``moved`` when the job's state is another, ``moving`` as bytes arrive
    (``progress_s`` apart), ``pinned`` when the revision is resolved to a commit."""

    moved: Callable[[JobState], None]
    moving: Callable[[], None]
    pinned: Callable[[str], None]
    progress_s: float


class JobRunner:
    """Runs ``job`` once."""

    def __init__(
        self,
        engine: Engine,
        job: Job,
        profile: Profile,
        select: FileSelector,
        told: Told,
        tally: Tally,
        allowance: Unlimited,
        margin_bytes: int,
    ) -> None:
        self._engine = engine
        self._job = job
        self._profile = profile
        self._told = told
        self._margin_bytes = margin_bytes
        self._meter = Meter(job, tally, moved=allowance.moved)
        self._patience = Patience(self._outage, self._meter)
        self._prober = Prober(engine.hub, select, self._patience)
        self._route = Route(
            Gate(profile.connections_start, allowance),
            Stalls(profile.stall_timeout_s, asyncio.get_running_loop().time),
            Reach(self._outage(SCOUTS_SHARE)),
            self._meter,
        )
        self._blobs = asyncio.Semaphore(BLOBS_AT_ONCE)

    async def run(self) -> None:
        """Return when all files are in the cache and the ref is written.

        Raises:
            MoshidError: what stopped it (perhaps inside an exception group).
        """
        try:
            async with asyncio.TaskGroup() as group:
                beats = [group.create_task(self._tick())]
                if self._profile.connections_start < self._profile.connections_max:
                    beats.append(group.create_task(self._tune()))
                await self._probe()
                await self._bring_all()
                for beat in beats:
                    beat.cancel()
        except* Resized as e:
            await self._engine.ledger.call(Ledger.unresolve, self._job.id)
            hint = "It is asked for anew, by itself; what has come is kept."
            raise DownloadWaits("another size is told than before", hint=hint) from e
        finally:
            self._meter.stop()
            await self._route.aftermath.close()

    def _outage(self, share: float = 1.0) -> Outage:
        p, clock = self._profile, asyncio.get_running_loop().time
        return Outage(
            share * p.retry_first_s, min(p.retry_max_s, ASK_AGAIN_MAX_S), self._engine.rng, clock
        )

    async def _probe(self) -> None:
        """Pin the commit, and find out which files are wanted that were not wanted before."""
        job, ledger = self._job, self._engine.ledger
        self._told.moved(JobState.PROBING)
        if not job.commit:
            self._told.pinned(await self._prober.commit(job.repo, job.revision))
            # Two revisions at one commit are one job; in one call, since that may end this one.
            await ledger.call(Ledger.settle_commit, job.id, job.commit)
        for want in await ledger.call(Ledger.wants, job.id, resolved=False):
            found = await self._prober.files(job.repo, job.commit, want)
            rows = [FileRow(f.path, f.etag, f.size, FileState.QUEUED) for f in found]
            await ledger.call(Ledger.resolve_want, job.id, want, rows)
        await load_files(self._engine, job)

    async def _bring_all(self) -> None:
        blobs: dict[str, list[JobFile]] = {}
        for file in sorted(self._job.files, key=lambda f: f.size):
            blobs.setdefault(file.digest, []).append(file)
        self._show(self._job.files, FileState.QUEUED)
        async with asyncio.TaskGroup() as group:
            for files in blobs.values():
                group.create_task(self._bring(files))
        self._told.moved(JobState.PUBLISHING)
        await write_refs(self._engine, self._job)

    async def _bring(self, files: Sequence[JobFile]) -> None:
        """One blob, which one or more files show."""
        etag, size = files[0].digest, files[0].size
        async with self._blobs, self._engine.locks[self._engine.shelf.key(etag)]:
            if not await self._is_cached(files):
                partial = await self._open_partial(etag, size)
                try:
                    await self._transfer(files).bring(partial)
                    self._show(files, FileState.PUBLISHING)
                    await self._publish(files[0], partial.path)
                finally:
                    await self._engine.on_disk(partial.close)
            for file in files:
                await self._link(file)
            self._show(files, FileState.DONE)

    def _transfer(self, files: Sequence[JobFile]) -> Transfer:
        job, etag, size = self._job, files[0].digest, files[0].size
        source = Source(
            self._engine.hub, self._patience, job.repo, job.commit, files[0].path, etag, size
        )
        return Transfer(
            self._engine,
            self._profile,
            self._route,
            self._meter,
            source,
            files,
            lambda state: self._show(files, state),
        )

    async def _is_cached(self, files: Sequence[JobFile]) -> bool:
        """Whether the cache has the blob already; its digest is checked once."""
        etag, size = files[0].digest, files[0].size
        blob = self._engine.shelf.blob(self._job.repo, etag)
        stat = await self._engine.on_disk(stat_of, blob)
        if stat is None or stat[0] != size:
            return False
        known = await self._engine.ledger.call(Ledger.is_checked, str(blob), *stat)
        if not known:
            self._show(files, FileState.VERIFYING)
            if not await self._engine.on_disk(file_matches, blob, etag, size):
                log.warning("a cached file is damaged", extra={"path": files[0].path})
                return False
            await self._engine.ledger.call(Ledger.set_checked, str(blob), *stat)
        for file in files:
            self._meter.hold([file], size - file.bytes_done)
            file.chunks_done = file.chunks_total = max(1, file.chunks_total)
        self._meter.settle()
        return True

    async def _open_partial(self, etag: str, size: int) -> Partial:
        shelf = self._engine.shelf
        path = shelf.partial(etag)
        if not await self._engine.on_disk(self._engine.volume.present):
            raise VolumeMissing(f"the volume that holds {shelf.name} is not there")
        need = size - await self._engine.on_disk(allocated_bytes, path)
        free = await self._engine.on_disk(self._engine.volume.free_bytes)
        await self._engine.on_disk(shelf.seed, self._job.repo, etag, size)
        if need > 0 and free < room_for(need, self._margin_bytes):
            wanted = room_for(need, self._margin_bytes)
            raise DiskFull(
                f"{wanted / 1e6:,.1f} MB are needed on the volume of {shelf.name} (with a small "
                f"reserve), {free / 1e6:,.1f} MB are free"
            )
        return await self._engine.open_partial(etag, size)

    async def _publish(self, file: JobFile, partial: Path) -> None:
        shelf, job = self._engine.shelf, self._job
        await self._engine.on_disk(
            shelf.publish, job.repo, job.commit, file.path, file.digest, partial
        )
        blob = shelf.blob(job.repo, file.digest)
        stat = await self._engine.on_disk(stat_of, blob)
        if stat is not None:
            await self._engine.ledger.call(Ledger.set_checked, str(blob), *stat)

    async def _link(self, file: JobFile) -> None:
        job = self._job
        link = self._engine.shelf.link
        await self._engine.on_disk(link, job.repo, job.commit, file.path, file.digest)
        await self._engine.ledger.call(Ledger.set_file_state, job.id, file.path, FileState.DONE)

    def _show(self, files: Sequence[JobFile], state: FileState) -> None:
        if all(f.state is state for f in files):
            return
        for file in files:
            file.state = state
        self._told.moved(of_files(f.state for f in self._job.files))

    async def _tick(self) -> None:
        while True:
            self._meter.tick()
            self._told.moving()
            await asyncio.sleep(self._told.progress_s)

    async def _tune(self) -> None:
        tuner = Tuner(self._profile.connections_start, self._profile.connections_max)
        while True:
            before_bytes = self._job.bytes_fetched
            await asyncio.sleep(TUNE_S)
            goodput_bps = (self._job.bytes_fetched - before_bytes) / TUNE_S
            troubles, self._meter.troubles = self._meter.troubles, 0
            if self._job.connections and not self._route.reach.lost:
                await self._route.gate.resize(tuner.next(goodput_bps, troubles))


async def write_refs(engine: Engine, job: Job) -> None:
    """Say in the cache that the revisions which the job stands for are at its commit."""
    for revision in await engine.ledger.call(Ledger.refs, job.id):
        await engine.on_disk(engine.shelf.write_ref, job.repo, revision, job.commit)


async def load_files(engine: Engine, job: Job) -> None:
    """Bring the job's files and sums up to what the ledger knows."""
    known = {(f.path, f.digest, f.size): f for f in job.files}
    job.files = []
    for row in await engine.ledger.call(Ledger.files, job.id):
        file = known.get((row.path, row.etag, row.size)) or await _load_file(engine, job.repo, row)
        file.state = FileState(row.state)
        if file.state is FileState.DONE:
            file.bytes_done = file.size
        job.files.append(file)
    job.bytes_total = sum(f.size for f in job.files)
    job.bytes_done = sum(f.bytes_done for f in job.files)


async def _load_file(engine: Engine, repo: str, row: FileRow) -> JobFile:
    """A file with what the ledger knows of its blob, if that is still there."""
    file = JobFile(row.path, row.size, row.etag)
    shelf = engine.shelf
    if await engine.disk.run(_exists, shelf.blob(repo, row.etag), shelf.partial(row.etag)):
        chunks = await engine.ledger.call(Ledger.chunks, shelf.key(row.etag))
        file.bytes_done = bytes_done(chunks)
        file.chunks_total, file.chunks_done = len(chunks), sum(c.done for c in chunks)
    return file


def _exists(*paths: Path) -> bool:
    """Whether one of them is there, as far as can be seen. Blocking."""
    return any(os.path.exists(p) for p in paths)
