"""The jobs in memory: one entry each, its state moved here and nowhere else, then told.

Owns the transition check, the ledger's copy of the state and the events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from dataclasses import dataclass, field

import msgspec

from moshid.downloads import history, resting
from moshid.downloads.engine import Engine
from moshid.downloads.job import Job, JobError
from moshid.downloads.ledger import JobRow, Ledger
from moshid.downloads.meter import count_refetched, counters_of
from moshid.downloads.output import output_of
from moshid.downloads.remembered import load_files
from moshid.downloads.site import site_of
from moshid.downloads.states import ACTIVE, FINISHED, JobState, may_follow
from moshid.downloads.terms import SAME, Priority, Terms
from moshid.errors import DiskFull, LedgerBroken, NoSuchJob, PartialLocked
from moshid.events import Bus

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Entry:
    """A job, its row and its task. ``stopping``: somebody else decides what comes after the task;
    ``finished``: set while the job is done, failed or cancelled; ``lock``: held by whoever starts
    or stops the task; ``into``: the job that this one became part of."""

    job: Job
    row: JobRow
    task: asyncio.Task[None] | None = None
    stopping: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    into: Entry | None = None

    async def end(self) -> Entry:
        """Wait until the job, or the one that it became part of, is finished: that one."""
        await self.finished.wait()
        return self if self.into is None else await self.into.end()


class Entries:
    """All jobs, oldest first."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._by_id: dict[str, Entry] = {}
        self._absorbed: dict[str, str] = {}
        bus.provide_snapshot("download", lambda: {"jobs": [e.job.to_json() for e in self.all()]})

    def all(self) -> list[Entry]:
        """All entries, oldest first."""
        return list(self._by_id.values())

    async def load(self, engine: Engine) -> None:
        """Bring in what the ledger knows. What was at work when the process ended is queued; a job
        of which nobody knows what it was to fetch is struck: its start was cut short."""
        self._by_id.clear()
        rows = await engine.ledger.call(Ledger.jobs)
        forgotten = set(await history.surplus(engine, rows))
        await history.strike(engine, forgotten)
        for row in [row for row in rows if row.id not in forgotten]:
            if row.state not in FINISHED and not await _is_to_fetch(engine, row.id):
                await engine.ledger.call(Ledger.delete_job, row.id)
                continue
            entry = _entry_of(row)
            await load_files(await site_of(engine, row), entry.job)
            count_refetched(entry.job)
            if entry.job.state in ACTIVE:
                entry.job.state, entry.job.error = JobState.QUEUED, None
            if entry.job.state in FINISHED:
                entry.finished.set()
            self._by_id[row.id] = entry
        self._absorbed = await engine.ledger.call(Ledger.absorbed)

    async def create(self, engine: Engine, row: JobRow) -> Entry:
        """Enter a new job."""
        await engine.ledger.call(Ledger.add_job, row)
        entry = self._by_id[row.id] = _entry_of(row)
        return entry

    async def trim(self, engine: Engine) -> None:
        """Forget the oldest jobs that are over, but for those that nobody may forget now."""
        for job_id in await history.surplus(engine, await engine.ledger.call(Ledger.jobs)):
            old = self._by_id.get(job_id)
            if old is None or old.task is not None or old.lock.locked():
                continue
            if old.job.state in FINISHED:
                self._strike(old)
                await history.strike(engine, [job_id])

    async def agree(self, engine: Engine, entry: Entry, terms: Terms) -> bool:
        """Go on, on other terms as far as they say so. Whether a run that is under way has to
        begin anew for them: for another manner, or sources that there were not before."""
        job, row = entry.job, terms.manner.over(entry.row)
        rearranged = row != entry.row
        if rearranged:
            await engine.ledger.call(Ledger.set_manner, row)
            entry.row, job.profile = row, row.profile
        priority = terms.priority or job.priority
        limit_bps = job.limit_bps if terms.limit_bps is SAME else terms.limit_bps
        if (priority, limit_bps) != (job.priority, job.limit_bps):
            await engine.ledger.call(Ledger.set_terms, job.id, priority.rank, limit_bps)
            job.priority, job.limit_bps = priority, limit_bps
            self.tell(entry)
        if not terms.sources:
            return rearranged
        return await engine.ledger.call(Ledger.add_sources, job.id, terms.sources) or rearranged

    def find(self, endpoint: str, repo: str, revision: str, commit: str | None) -> Entry | None:
        """The job for this commit; where it is not known, the latest for this revision."""
        mine = [e for e in self.all() if (e.row.endpoint, e.job.repo) == (endpoint, repo)]
        if commit is not None and (same := [e for e in mine if e.job.commit == commit]):
            return same[0]
        open_ones = [e for e in mine if e.job.revision == revision]
        if commit is not None:
            open_ones = [e for e in open_ones if not e.job.commit]
        return open_ones[-1] if open_ones else None

    def get(self, id_or_repo: str) -> Entry:
        """By id (of one that became part of another: that one), or the latest of a repository.

        Raises:
            NoSuchJob: there is none.
        """
        if (found := self.by_id(id_or_repo)) is not None:
            return found
        for entry in reversed(self.all()):
            if entry.job.repo == id_or_repo:
                return entry
        raise NoSuchJob(f"there is no download job {id_or_repo!r}")

    def by_id(self, job_id: str) -> Entry | None:
        """The job of this id, or the one that it became part of."""
        return self._by_id.get(self._absorbed.get(job_id, job_id))

    def pin(self, entry: Entry, commit: str) -> None:
        """The entry's revision is at this commit; another job at the same one gives way."""
        entry.job.commit = commit
        for other in self.all():
            same = (other.row.endpoint, other.job.repo) == (entry.row.endpoint, entry.job.repo)
            if other is not entry and same and other.job.commit == commit:
                self._absorb(other, entry)

    def _absorb(self, other: Entry, entry: Entry) -> None:
        """Take a job out; whoever waits for it waits for ``entry`` from now on. The last event of
        it says ``absorbed_by``."""
        if other.task is not None:
            other.stopping = True
            other.task.cancel()
        gone = other.job.id
        del self._by_id[gone]
        self._absorbed |= {o: entry.job.id for o, i in self._absorbed.items() if i == gone}
        self._absorbed[gone] = entry.job.id
        picture = {"job": other.job.to_json(), "absorbed_by": entry.job.id}
        self._bus.publish("download", picture, key=f"download:{gone}")
        other.into = entry
        other.finished.set()

    def show(self, entry: Entry, state: JobState) -> None:
        """Move between the states of a job at work; the ledger need not know."""
        if entry.job.state is not state:
            self._check(entry, state)
            entry.job.state = state
            self.tell(entry)

    async def move(
        self, engine: Engine, entry: Entry, state: JobState, error: JobError | None = None
    ) -> None:
        """Move to a state that outlives the process: the ledger first, then everybody else."""
        self._check(entry, state)
        text = json.dumps(msgspec.to_builtins(error)) if error else None
        try:
            await engine.ledger.call(Ledger.set_state, entry.job.id, state, text)
            await engine.ledger.call(Ledger.count, counters_of(entry.job))
        except (DiskFull, LedgerBroken, PartialLocked) as e:
            log.warning("the ledger cannot take the state", extra={"why": e.message})
        entry.job.state, entry.job.error = state, error
        if state in FINISHED:
            entry.finished.set()
        else:
            entry.finished.clear()
        facts = {"id": entry.job.id, "repo": entry.job.repo}
        if error is not None:
            facts["why"] = error.message
        level = logging.WARNING if state is JobState.FAILED else logging.INFO
        log.log(level, "download %s", state, extra=facts)
        self.tell(entry)

    async def forget(self, engine: Engine, entry: Entry) -> None:
        """Strike a job that is at rest, with its partial files: what it brought is being deleted.
        Who waits for it sees it cancelled; the last event of a job says ``forgotten``."""
        if entry.job.state not in (JobState.DONE, JobState.CANCELLED):
            await self.move(engine, entry, JobState.CANCELLED)
        await resting.give_up(await site_of(engine, entry.row), entry.job)
        await engine.ledger.call(Ledger.delete_job, entry.job.id)
        self._strike(entry)

    def _strike(self, entry: Entry) -> None:
        self._by_id.pop(entry.job.id, None)
        picture = {"job": entry.job.to_json(), "forgotten": True}
        self._bus.publish("download", picture, key=f"download:{entry.job.id}")

    def tell(self, entry: Entry) -> None:
        """Publish the job as it is; of one that became part of another, no more is heard."""
        if entry.into is not None:
            return
        key = f"download:{entry.job.id}"
        self._bus.publish("download", {"job": entry.job.to_json()}, key=key)

    def _check(self, entry: Entry, state: JobState) -> None:
        if not may_follow(entry.job.state, state):
            raise RuntimeError(f"a job cannot go from {entry.job.state} to {state}")


async def _is_to_fetch(engine: Engine, job_id: str) -> bool:
    """Whether the ledger knows of anything that the job is to fetch."""
    call = engine.ledger.call
    wants = [w for r in (False, True) for w in await call(Ledger.wants, job_id, resolved=r)]
    return bool(wants or await call(Ledger.files, job_id))


def new_id() -> str:
    """A job id: short enough to type, and by its first letter never to be taken for a number."""
    return secrets.choice("abcdf") + secrets.token_hex(4)[1:]


def _entry_of(row: JobRow) -> Entry:
    output = output_of(row.endpoint)
    job = Job(
        id=row.id,
        repo=row.repo,
        revision=row.revision,
        commit=row.commit_hash or "",
        profile=row.profile,
        state=JobState(row.state),
        bytes_fetched=row.bytes_fetched,
        bytes_rescued=row.bytes_rescued,
        chunks_corrupt=row.chunks_corrupt,
        retries=row.retries,
        error=msgspec.convert(json.loads(row.error), JobError) if row.error else None,
        priority=Priority.of_rank(row.priority),
        limit_bps=row.limit_bps,
        output=None if output is None else str(output),
    )
    return Entry(job, row)
