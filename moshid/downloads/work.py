"""The task of one job: a turn of the line, a run, and what its end makes of the job's state.

Owns what follows a run; who starts and stops the task is the steering's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from moshid.downloads import mounts, resting
from moshid.downloads.allowance import Allowance
from moshid.downloads.engine import Engine
from moshid.downloads.entries import Entries, Entry
from moshid.downloads.job import JobError
from moshid.downloads.line import Line
from moshid.downloads.profiles import Profile, choose
from moshid.downloads.runner import JobRunner, Told
from moshid.downloads.site import site_of
from moshid.downloads.states import JobState
from moshid.downloads.tally import Tally
from moshid.downloads.volume import FULL
from moshid.errors import DiskFull, DownloadError, DownloadWaits, InternalError, MoshidError
from moshid.selection import FileSelector

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Works on jobs. ``progress_s``: between two events of a job; ``margin_bytes``: see Parts."""

    entries: Entries
    line: Line
    select: FileSelector
    profiles: Mapping[str, Profile]
    progress_s: float
    margin_bytes: int
    offline: bool

    async def on(self, engine: Engine, entry: Entry) -> None:
        """Work on a job until it is done, or at rest; whatever stops it becomes its state."""
        try:
            while not await self._turn(engine, entry):
                log.info("waits for the line again", extra={"id": entry.job.id})
        finally:
            entry.task = None

    async def _turn(self, engine: Engine, entry: Entry) -> bool:
        """One turn; False: the line was closed to the job, which waits for another."""
        try:
            await self._run(engine, entry)
        except (MoshidError, BaseExceptionGroup) as e:
            if not entry.stopping:
                return await self._rest(engine, entry, resting.cause(e, offline=self.offline))
        except Exception:
            log.exception("a download failed", extra={"id": entry.job.id})
            await self._rest(engine, entry, InternalError("the download met an unexpected fault"))
        else:
            await self.entries.move(engine, entry, JobState.DONE)
        return True

    async def _run(self, engine: Engine, entry: Entry) -> None:
        profile = self._profile(entry)
        most = profile.connections_max
        async with self.line.turn(entry.job, most, lambda: self.entries.tell(entry)) as allowance:
            await mounts.look_again(engine)
            tally = await _open_tally(engine, entry.job.id)
            try:
                here = await site_of(engine, entry.row)
                runner = self._runner(here, entry, profile, tally, allowance)
                async with asyncio.TaskGroup() as group:
                    watching = group.create_task(self.line.watch(allowance))
                    await runner.run()
                    watching.cancel()
            finally:
                await engine.counts.run(tally.close)

    async def _rest(self, engine: Engine, entry: Entry, error: MoshidError) -> bool:
        """Put the job to rest; False: it is only queued."""
        if isinstance(error, DownloadWaits):
            await self.entries.move(engine, entry, JobState.QUEUED, JobError.of(error))
            return False
        paused = isinstance(error, resting.PAUSING)
        state = JobState.PAUSED if paused else JobState.FAILED
        await self.entries.move(engine, entry, state, JobError.of(error))
        return True

    def _profile(self, entry: Entry) -> Profile:
        row = entry.row
        return choose(self.profiles, row.profile, chunk_bytes=row.chunk_bytes, workers=row.workers)

    def _runner(
        self, engine: Engine, entry: Entry, profile: Profile, tally: Tally, allowance: Allowance
    ) -> JobRunner:
        told = Told(
            moved=lambda state: self.entries.show(entry, state),
            moving=lambda: self.entries.tell(entry),
            pinned=lambda commit: self.entries.pin(entry, commit),
            progress_s=self.progress_s,
        )
        job, select, margin_bytes = entry.job, self.select, self.margin_bytes
        return JobRunner(engine, job, profile, select, told, tally, allowance, margin_bytes)


async def _open_tally(engine: Engine, job_id: str) -> Tally:
    """Raises DiskFull, DownloadError: MOSHID_HOME cannot be written."""
    try:
        return await engine.counts.run(Tally, engine.tallies / job_id, engine.counts.begin)
    except OSError as e:
        if e.errno in FULL:
            raise DiskFull(f"no room left on the volume of MOSHID_HOME: {e.strerror}") from e
        raise DownloadError(
            f"{engine.tallies} cannot be written: {e.strerror}",
            hint="Check the folder that MOSHID_HOME names: may it be written, is there room?",
        ) from e
