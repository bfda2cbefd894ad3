"""The line that all jobs share: whose turn it is, who has how many connections, who reads next.

Owns the rules between jobs. It looks again whenever something changes, and ``poll_s`` apart for
what only time changes: the schedule, a job that gets nowhere, one that has stopped moving bytes.

- A job has its turn when fewer than ``jobs_at_once`` of its own or a higher priority run. Those
  that got nowhere for ``stuck_s`` (a Hub that is down) do not count.
- Open connections, over all jobs: as many as the running job with the most would have alone,
  divided by weight, but one for each.
- A job of low priority reads only while no other job moves bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from moshid.downloads.allowance import Allowance
from moshid.downloads.bell import Bell
from moshid.downloads.job import Job
from moshid.downloads.limits import Limits
from moshid.downloads.shares import Ask, Bucket, Queue
from moshid.downloads.terms import LOW_CONNECTIONS_MAX, Priority, connections_for, divide
from moshid.errors import DownloadWaits, MeteredLine, OutsideSchedule
from moshid.schedule import Local

MOVING_S: Final = 3.0
"""A job moves bytes as long as some came within that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """The times that a line goes by: one that only goes on, in seconds; the time of day, in seconds
    since the epoch, and what a clock on the wall shows at that."""

    steady: Callable[[], float] = time.monotonic
    epoch: Callable[[], float] = time.time
    local: Local = datetime.fromtimestamp


class Line:
    """One line. ``run`` it while jobs use it."""

    def __init__(
        self,
        limits: Limits,
        *,
        jobs_at_once: int = 2,
        stuck_s: float = 10.0,
        poll_s: float = 1.0,
        clocks: Clocks | None = None,
    ) -> None:
        self.limits = limits
        self._jobs_at_once = jobs_at_once
        self._stuck_s = stuck_s
        self._poll_s = poll_s
        self._clocks = clocks or Clocks()
        self._members: list[Allowance] = []
        self._queue = Queue(Bucket())
        self._futures: dict[Ask, asyncio.Future[int]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._changed = Bell()
        self._change_s: float | None = None
        self._change_known_s = 0.0

    def now_s(self) -> float:
        """The steady clock."""
        return self._clocks.steady()

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(self._poll_s)

    @property
    def is_open(self) -> bool:
        """Whether the schedule lets downloads run at full speed now."""
        schedule = self.limits.schedule
        return schedule is None or schedule.is_open(self._clocks.local(self._clocks.epoch()))

    @property
    def limit_bps(self) -> int | None:
        """The limit that goes now, over all jobs."""
        limits = [self.limits.limit_bps]
        if self.limits.schedule is not None and not self.is_open:
            limits.append(self.limits.schedule.outside_bps)
        return min((x for x in limits if x is not None), default=None)

    @property
    def changes(self) -> datetime | None:
        """When the schedule opens or closes next, on the wall's clock."""
        schedule, now_s = self.limits.schedule, self._clocks.epoch()
        if schedule is None:
            return None
        past = self._change_s is not None and self._change_s <= now_s
        if past or not self._change_known_s <= now_s < self._change_known_s + 3600:
            self._change_s = schedule.next_change_s(now_s, self._clocks.local)
            self._change_known_s = now_s
        return None if self._change_s is None else self._clocks.local(self._change_s)

    def set(self, limits: Limits) -> None:
        """Other limits from now on."""
        self.limits, self._change_s, self._change_known_s = limits, None, 0.0
        self.look()

    @asynccontextmanager
    async def turn(
        self, job: Job, connections_max: int, tell: Callable[[], None]
    ) -> AsyncIterator[Allowance]:
        """A turn of the job, once it has one; until then the job shows what it waits for."""
        allowance = Allowance(job, connections_max, tell, self)
        self._members.append(allowance)
        try:
            self.look()
            while not allowance.running:
                await self._changed.wait()
            allowance.waits(None)
            yield allowance
        finally:
            self._members.remove(allowance)
            self.look()

    async def watch(self, allowance: Allowance) -> None:
        """Wait until the job may not go on.

        Raises:
            OutsideSchedule, MeteredLine: it may not.
        """
        while (why := self._closed_to(allowance)) is None:
            await self._changed.wait()
        raise why

    def look(self) -> None:
        """See who may do what now."""
        now_s = self.now_s()
        limit_bps = self.limit_bps
        self._queue.total.change(limit_bps, now_s)
        for member in self._members:
            self._note_trouble(member, now_s)
            job = member.job
            member.share.weight = job.priority.weight
            member.share.bucket.change(job.limit_bps, now_s)
            limited = limit_bps is not None or job.limit_bps is not None
            member.free = not limited and job.priority is not Priority.LOW
        self._give_turns()
        self._give_seats()
        self._tell_who_give_way()
        self._serve()
        self._changed.ring()
        for member in self._members:
            if member.on_seats is not None:
                member.on_seats()

    async def read(self, allowance: Allowance, want_bytes: int) -> int:
        """Wait until the job may read; returns how much."""
        while self._gives_way(allowance):
            await self._changed.wait()
        ask = self._queue.ask(allowance.share, want_bytes)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._futures[ask] = future
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            self._queue.withdraw(ask)
            if future.done() and not future.cancelled():
                self.paid(allowance, -future.result())
            raise
        finally:
            self._futures.pop(ask, None)

    def paid(self, allowance: Allowance, extra_bytes: int) -> None:
        """The job has read more than was granted, or less."""
        self._queue.charge(allowance.share, extra_bytes)

    def may_open(self, allowance: Allowance) -> bool:
        """Whether the job may open one more connection."""
        if allowance.inside >= allowance.seats or self._gives_way(allowance):
            return False
        return allowance.inside == 0 or sum(m.inside for m in self._members) < self._most()

    def left(self, allowance: Allowance) -> None:
        """A connection was closed: the others may have waited for that."""
        for member in self._members:
            if member is not allowance and member.inside < member.seats and member.on_seats:
                member.on_seats()

    def _closed_to(self, allowance: Allowance) -> DownloadWaits | None:
        schedule = self.limits.schedule
        if schedule is not None and schedule.outside_bps is None and not self.is_open:
            when = self.changes
            goes_on = f"; it goes on at {when:%a %H:%M}" if when else ""
            return OutsideSchedule(f"outside the download schedule ({schedule.text}){goes_on}")
        if self.limits.metered and allowance.job.priority is not Priority.HIGH:
            return MeteredLine("the line is metered: only downloads of high priority run")
        return None

    def _give_turns(self) -> None:
        by_rank = sorted(self._members, key=lambda m: -m.job.priority.rank)
        for member in by_rank:
            if member.running:
                continue
            why = self._closed_to(member)
            rivals = [m for m in self._members if m.running and not self._is_stuck(m)]
            rank = member.job.priority.rank
            if why is None and sum(m.job.priority.rank >= rank for m in rivals) >= (
                self._jobs_at_once
            ):
                why = DownloadWaits(f"its turn comes: {self._jobs_at_once} downloads run at a time")
            member.running = why is None
            if why is not None:
                member.waits(why)

    def _give_seats(self) -> None:
        takers = [m for m in self._members if m.running]
        active = [m for m in takers if not self._is_stuck(m) and not self._gives_way(m)]
        active.sort(key=lambda m: -m.job.priority.rank)
        for member in takers:
            member.seats = 1
        seats = divide(self._most(), [m.share.weight for m in active]) if active else []
        for member, count in zip(active, seats, strict=True):
            most = connections_for(member.job.limit_bps, member.connections_max)
            if member.job.priority is Priority.LOW:
                most = min(most, LOW_CONNECTIONS_MAX)
            member.seats = min(count, most)

    def _tell_who_give_way(self) -> None:
        why = DownloadWaits("it goes on when no other download moves bytes")
        for member in self._members:
            if member.running:
                member.waits(why if self._gives_way(member) else None)

    def _most(self) -> int:
        """How many connections may be open over all jobs."""
        most = max((m.connections_max for m in self._members if m.running), default=1)
        return connections_for(self.limit_bps, most)

    def _gives_way(self, allowance: Allowance) -> bool:
        if allowance.job.priority is not Priority.LOW:
            return False
        others = [m for m in self._members if m.job.priority is not Priority.LOW]
        since_s = self.now_s() - MOVING_S
        return any(m.running and m.moved_s is not None and m.moved_s > since_s for m in others)

    def _note_trouble(self, member: Allowance, now_s: float) -> None:
        job = member.job
        waits = job.error is not None and job.error.kind.startswith(DownloadWaits.kind)
        if job.error is None or waits or job.bytes_fetched != member.stuck_bytes:
            member.stuck_since_s, member.stuck_bytes = None, job.bytes_fetched
        elif member.stuck_since_s is None:
            member.stuck_since_s = now_s

    def _is_stuck(self, member: Allowance) -> bool:
        since_s = member.stuck_since_s
        return since_s is not None and self.now_s() - since_s >= self._stuck_s

    def _serve(self) -> None:
        """Give the readers what there is, and come back for the next."""
        now_s = self.now_s()
        for ask, count_bytes in self._queue.serve(now_s):
            future = self._futures[ask]
            if not future.done():
                future.set_result(count_bytes)
            else:  # its reader is being cancelled
                self._queue.charge(ask.share, -count_bytes)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (wait_s := self._queue.next_s(now_s)) is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(wait_s, self._serve)
