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

from moshid.downloads import standing
from moshid.downloads.allowance import Unlimited
from moshid.downloads.backoff import Outage
from moshid.downloads.disk import Partial
from moshid.downloads.disk_room import open_with_room
from moshid.downloads.displaced import put_back
from moshid.downloads.edition import Editions
from moshid.downloads.engine import Engine
from moshid.downloads.job import Job, JobFile, by_blob
from moshid.downloads.ledger import FileRow, Ledger
from moshid.downloads.meter import Meter
from moshid.downloads.pace import Gate
from moshid.downloads.probe import Prober
from moshid.downloads.profiles import Profile
from moshid.downloads.reach import Reach
from moshid.downloads.remembered import load_files
from moshid.downloads.remote import Resized
from moshid.downloads.route import REPLACED_HINT, Route
from moshid.downloads.source import Patience, Source
from moshid.downloads.stall import Stalls
from moshid.downloads.states import FileState, JobState, of_files
from moshid.downloads.tally import Tally
from moshid.downloads.transfer import Transfer
from moshid.downloads.tuner import Tuner
from moshid.downloads.volume import stat_of
from moshid.errors import DownloadError, DownloadWaits, MoshidError
from moshid.selection import FileSelector

BLOBS_AT_ONCE: Final = 4
ROUNDS_MAX: Final = 3
"""So often may what is done be gone before all is done."""

TUNE_S: Final = 2.0
ASK_AGAIN_MAX_S: Final = 5.0
"""While nobody answers, one asks for all, so that it may ask this often."""

SCOUTS_SHARE: Final = 0.5
"""A scout follows the last one after such a part of the first wait: it asks for one connection, not
for a server's work."""

DISPLACED_MAX: Final = 3
"""So often may somebody delete a blob's partial file while it is being fetched."""

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
            editions=None if engine.shelf.shared else Editions(),
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
            if self._route.editions is not None:
                hint = f"{hint} {REPLACED_HINT}"
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
        """Until all is there: what a job had done may be deleted while it does the rest."""
        await self._look()
        for _ in range(ROUNDS_MAX):
            self._show(self._job.files, FileState.QUEUED)
            async with asyncio.TaskGroup() as group:
                for files in by_blob(self._job.files):
                    group.create_task(self._bring(files))
            self._told.moved(JobState.PUBLISHING)
            lacking = await self._look()
            if not lacking:
                return await write_refs(self._engine, self._job)
            log.warning("a file is gone again", extra={"path": lacking[0].path})
        raise DownloadError(f"{lacking[0].path} does not stay in {self._engine.shelf.name}")

    async def _look(self) -> list[JobFile]:
        """The files that are not where they belong; the ledger calls none of them done any more,
        besides a URL's while its output is there: the job may replace what it made."""
        shelf, job = self._engine.shelf, self._job
        lacking = await standing.lacking(self._engine, job)
        for file in lacking:
            there = await self._engine.on_disk(os.path.exists, shelf.blob(job.repo, file.digest))
            if file.state is FileState.DONE and (shelf.shared or not there):
                await self._record(file, FileState.QUEUED)
        return lacking

    async def _bring(self, files: Sequence[JobFile]) -> None:
        """One blob, which one or more files show."""
        etag = files[0].digest
        async with self._blobs, self._engine.locks[self._engine.shelf.key(etag)]:
            found = await standing.find(
                self._engine, self._job, files, lambda: self._show(files, FileState.VERIFYING)
            )
            self._hold(files if found.blob_is_right else found.alone)
            rest = [f for f in files if f not in found.alone]
            if rest and not found.blob_is_right:
                await self._fetch(rest, found.plain)
            for file in rest:
                await self._link(file, rest[0])
            for file in files:
                await self._record(file, FileState.DONE)
            self._show(files, FileState.DONE)

    async def _fetch(self, files: Sequence[JobFile], plain: Sequence[Path]) -> None:
        engine, etag, size = self._engine, files[0].digest, files[0].size
        for attempt in range(DISPLACED_MAX + 1):
            partial = await open_with_room(
                engine, self._job.repo, etag, size, self._margin_bytes, plain
            )
            try:
                if await self._bring_to(partial, files, last=attempt == DISPLACED_MAX):
                    return
            finally:
                await engine.on_disk(partial.close)

    async def _bring_to(self, partial: Partial, files: Sequence[JobFile], *, last: bool) -> bool:
        """Bring a blob into its partial file, and publish that; False, unless it is the ``last``
        attempt: somebody deleted the file, and what had come is in another one of its name."""
        try:
            await self._transfer(files).bring(partial)
            self._show(files, FileState.PUBLISHING)
            await self._publish(files[0], partial)
            return True
        except (MoshidError, ExceptionGroup):
            engine = self._engine
            there = await engine.on_disk(engine.volume.present)
            if last or not there or await engine.on_disk(partial.is_in_place):
                raise
        log.warning("a partial file was deleted, and is made anew", extra={"path": files[0].path})
        await engine.on_disk(put_back, partial)
        return False

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

    def _hold(self, files: Sequence[JobFile]) -> None:
        """These are all there."""
        for file in files:
            self._meter.hold([file], file.size - file.bytes_done)
            file.chunks_done = file.chunks_total = max(1, file.chunks_total)
        if files:
            self._meter.settle()

    async def _publish(self, file: JobFile, partial: Partial) -> None:
        """The file that was verified, by its name: another one's inode is not taken for checked."""
        shelf, job = self._engine.shelf, self._job

        def publish() -> tuple[int, int, int]:
            partial.check_place()
            shelf.publish(job.repo, job.commit, file.path, file.digest, partial.path)
            return partial.stat()

        verified = await self._engine.on_disk(publish)
        blob = shelf.blob(job.repo, file.digest)
        if await self._engine.on_disk(stat_of, blob) == verified:
            await self._engine.ledger.call(Ledger.set_checked, str(blob), *verified)

    async def _link(self, file: JobFile, first: JobFile) -> None:
        job, link = self._job, self._engine.shelf.link
        await self._engine.on_disk(link, job.repo, job.commit, file.path, file.digest, first.path)

    async def _record(self, file: JobFile, state: FileState) -> None:
        await self._engine.ledger.call(Ledger.set_file_state, self._job.id, file.path, state)

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
