"""Starting, pausing, cancelling a job's task: one change of a job at a time, each carried through.

Owns the order stop, move, go on. A caller that leaves in the middle leaves nothing half-way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from moshid.carried import Carried
from moshid.downloads import resting
from moshid.downloads.engine import Engine
from moshid.downloads.entries import Entries, Entry
from moshid.downloads.site import site_of
from moshid.downloads.states import FINISHED, JobState
from moshid.errors import ShuttingDown, WrongJobState

T = TypeVar("T")
Work = Callable[[Entry], Coroutine[Any, Any, None]]


class Steering:
    """Steers the jobs of ``entries``; ``work`` is a job's task. ``group`` is set while tasks can
    be started."""

    def __init__(self, entries: Entries, work: Work) -> None:
        self._entries = entries
        self._work = work
        self._carried = Carried()
        self.group: asyncio.TaskGroup | None = None

    async def alone(self, entry: Entry, change: Callable[[], Awaitable[T]]) -> T:
        """Do ``change`` while nobody else changes the job."""

        async def locked() -> T:
            async with entry.lock:
                if self._entries.get(entry.job.id) is not entry:  # refuses a forgotten one
                    raise WrongJobState(f"job {entry.job.id} became part of another just now")
                return await change()

        return await self.through(locked())

    async def through(self, change: Coroutine[Any, Any, T]) -> T:
        """Do ``change`` to its end, though the caller be cancelled."""
        return await self._carried.through(change)

    async def settle(self) -> None:
        """Wait until no change is under way."""
        await self._carried.settle()

    async def pause(self, engine: Engine, entry: Entry) -> None:
        """Stop for now. Raises WrongJobState if there is nothing to stop."""
        _refuse(entry, FINISHED, "it cannot be paused")
        await self.stop(entry)
        _refuse(entry, FINISHED, "it cannot be paused")
        await self._entries.move(engine, entry, JobState.PAUSED)

    async def resume(self, engine: Engine, entry: Entry) -> None:
        """Go on. Raises WrongJobState if the job is done."""
        _refuse(entry, {JobState.DONE}, "there is nothing to go on with")
        if entry.task is None:
            await resting.ask_anew(engine, entry.job)
        await self.queue(engine, entry)

    async def cancel(self, engine: Engine, entry: Entry) -> None:
        """Give up. Raises WrongJobState if the job is done."""
        _refuse(entry, {JobState.DONE}, "delete what it brought instead")
        await self.stop(entry)
        _refuse(entry, {JobState.DONE}, "delete what it brought instead")
        if entry.job.state is not JobState.CANCELLED:
            await self._entries.move(engine, entry, JobState.CANCELLED)
        await resting.give_up(await site_of(engine, entry.row), entry.job)
        self._entries.tell(entry)

    async def queue(self, engine: Engine, entry: Entry, *, restart: bool = False) -> None:
        """Let the job run, unless it does; ``restart`` it if it does."""
        if entry.task is not None and not restart:
            return
        await self.stop(entry)
        await self._entries.move(engine, entry, JobState.QUEUED)
        self.spawn(entry)

    async def stop(self, entry: Entry) -> None:
        """End the job's task, which keeps what has come; the caller moves the state."""
        task = entry.task
        if task is None:
            return
        entry.stopping = True
        task.cancel()
        await asyncio.wait([task])

    def spawn(self, entry: Entry) -> None:
        """Start the job's task."""
        if self.group is None:
            raise ShuttingDown("the download service is not running")
        entry.stopping = False
        entry.task = self.group.create_task(self._work(entry), name=f"download {entry.job.id}")


def _refuse(entry: Entry, states: set[JobState] | frozenset[JobState], why: str) -> None:
    if entry.job.state in states:
        raise WrongJobState(f"the job is {entry.job.state}; {why}")
