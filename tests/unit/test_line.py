"""Who may use the line: turns, connections, hours, a metered line, low priority. By hand-set
clocks; no bytes move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from moshid.downloads.allowance import Allowance
from moshid.downloads.job import Job, JobError
from moshid.downloads.limits import Limits
from moshid.downloads.line import MOVING_S, Line
from moshid.downloads.pace import Gate
from moshid.downloads.terms import Priority
from moshid.errors import DownloadNetwork, MeteredLine, OutsideSchedule
from moshid.schedule import Schedule
from tests.fakes.hand_clock import HandClock

pytestmark = pytest.mark.asyncio
NIGHTS = Schedule.parse("22:00-07:00")
HIGH, NORMAL, LOW = Priority


class Jobs:
    """Jobs on a line; each has a task that asks for a turn and keeps it until it is ended."""

    def __init__(self, limits: Limits | None = None, *, jobs_at_once: int = 2) -> None:
        self.clock = HandClock()
        clocks = self.clock.clocks
        self.line = Line(limits or Limits(), jobs_at_once=jobs_at_once, clocks=clocks, stuck_s=10)
        self.allowed: dict[str, Allowance] = {}
        self.jobs: dict[str, Job] = {}
        self.ended: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, priority: Priority = NORMAL, connections: int = 8) -> Job:
        job = self.jobs[name] = Job(name, "r", "main", priority=priority)
        self._tasks[name] = asyncio.create_task(self._use(job, connections))
        await settle()
        return job

    async def end(self, name: str) -> None:
        self._tasks.pop(name).cancel()
        await settle()

    async def end_all(self) -> None:
        for name in tuple(self._tasks):
            await self.end(name)

    async def look(self) -> None:
        self.line.look()
        await settle()

    @property
    def running(self) -> set[str]:
        return set(self.allowed)

    def waits_for(self, name: str) -> str | None:
        error = self.jobs[name].error
        return error.kind if error else None

    async def _use(self, job: Job, connections: int) -> None:
        async with self.line.turn(job, connections, lambda: None) as allowance:
            self.allowed[job.id] = allowance
            try:
                await self.line.watch(allowance)
            except (OutsideSchedule, MeteredLine) as e:
                self.ended.append(e.kind)
            finally:
                del self.allowed[job.id]


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def on_a_line(limits: Limits | None = None, *, jobs_at_once: int = 2) -> AsyncIterator[Jobs]:
    jobs = Jobs(limits, jobs_at_once=jobs_at_once)
    try:
        yield jobs
    finally:
        await jobs.end_all()


async def test_turns_go_by_priority_and_then_in_order() -> None:
    async with on_a_line(jobs_at_once=1) as jobs:
        await jobs.start("first")
        for name, priority in (("low", LOW), ("a", NORMAL), ("b", NORMAL)):
            await jobs.start(name, priority)
        assert jobs.running == {"first"}
        assert jobs.waits_for("a") == "download.waits"
        await jobs.end("first")
        assert jobs.running == {"a"}
        assert jobs.waits_for("a") is None
        await jobs.end("a")
        assert jobs.running == {"b"}
        await jobs.end("b")
        assert jobs.running == {"low"}


async def test_a_high_job_waits_for_none_that_is_lower() -> None:
    async with on_a_line(jobs_at_once=2) as jobs:
        for name in ("a", "b", "c"):
            await jobs.start(name)
        assert jobs.running == {"a", "b"}
        await jobs.start("high", HIGH)
        assert jobs.running == {"a", "b", "high"}
        jobs.jobs["c"].priority = HIGH
        await jobs.look()
        assert jobs.running == {"a", "b", "high", "c"}
        await jobs.start("third", HIGH)
        assert "third" not in jobs.running


async def test_a_job_that_gets_nowhere_holds_no_turn() -> None:
    async with on_a_line(jobs_at_once=2) as jobs:
        dead = [await jobs.start("a"), await jobs.start("b")]
        await jobs.start("c")
        for job in dead:
            job.error = JobError.of(DownloadNetwork("the Hub is down"))
        await jobs.look()
        jobs.clock.advance(9.0)
        await jobs.look()
        assert jobs.running == {"a", "b"}, "patience first"
        dead[1].bytes_fetched += 1
        jobs.clock.advance(2.0)
        await jobs.look()
        assert jobs.running == {"a", "b", "c"}, "a is stuck, b has moved meanwhile"
        dead[0].error = None
        await jobs.start("d")
        assert jobs.running == {"a", "b", "c"}, "nobody is turned out, nobody comes in"


async def test_connections_are_shared_by_weight() -> None:
    async with on_a_line(jobs_at_once=3) as jobs:
        await jobs.start("a")
        assert jobs.allowed["a"].seats == 8
        await jobs.start("b")
        assert [jobs.allowed[n].seats for n in "ab"] == [4, 4]
        await jobs.start("h", HIGH, connections=10)
        assert [jobs.allowed[n].seats for n in "hab"] == [8, 1, 1], "ten, as h would have alone"
        await jobs.end("h")
        await jobs.end("b")
        assert jobs.allowed["a"].seats == 8


async def test_open_connections_never_exceed_the_sum_but_by_one_each() -> None:
    async with on_a_line() as jobs, AsyncExitStack() as stack:
        await jobs.start("a")
        first = Gate(8, jobs.allowed["a"])
        for _ in range(8):
            await stack.enter_async_context(first.slot())
        await jobs.start("b")
        second = Gate(8, jobs.allowed["b"])
        await stack.enter_async_context(second.slot())
        waiting = [asyncio.create_task(enter(second)) for _ in range(3)]
        await settle()
        assert jobs.allowed["a"].inside + jobs.allowed["b"].inside == 9
        await stack.aclose()
        await settle()
        assert jobs.allowed["b"].inside == 3
        assert jobs.allowed["a"].inside == 0
        for task in waiting:
            task.cancel()


async def enter(gate: Gate) -> None:
    async with gate.slot():
        await asyncio.Event().wait()


async def test_a_leaving_connection_lets_another_jobs_in() -> None:
    async with on_a_line() as jobs:
        await jobs.start("a")
        first = Gate(8, jobs.allowed["a"])
        tasks = [asyncio.create_task(enter(first)) for _ in range(8)]
        await settle()
        await jobs.start("b")
        second = Gate(8, jobs.allowed["b"])
        others = [asyncio.create_task(enter(second)) for _ in range(8)]
        await settle()
        assert jobs.allowed["b"].inside == 1
        for task in tasks[:3]:
            task.cancel()
        await settle()
        assert (jobs.allowed["a"].inside, jobs.allowed["b"].inside) == (5, 3)
        for task in tasks + others:
            task.cancel()


async def test_a_cancelled_visitor_of_a_gate_leaves_no_trace() -> None:
    gate = Gate(1)
    async with gate.slot():
        waiting = [asyncio.create_task(enter(gate)) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        await settle()
    waiting[1].cancel()  # just let in
    await settle()
    waiting[2].cancel()
    await settle()
    async with asyncio.timeout(5), gate.slot():
        assert all(task.cancelled() for task in waiting)
    await gate.resize(2)
    async with asyncio.timeout(5), gate.slot(), gate.slot():
        assert gate.limit == 2


async def test_a_low_job_opens_two_connections_and_none_while_others_move() -> None:
    async with on_a_line() as jobs:
        await jobs.start("low", LOW)
        low = jobs.allowed["low"]
        assert low.seats == 2
        assert low.may_open()
        await jobs.start("a")
        assert low.may_open(), "the other moves nothing yet"
        jobs.allowed["a"].moved()
        await jobs.look()
        assert not low.may_open()
        assert jobs.allowed["a"].seats == 8
        reading = asyncio.create_task(low.grant(100))
        await settle()
        assert not reading.done()
        assert jobs.waits_for("low") == "download.waits"
        jobs.clock.advance(MOVING_S + 0.1)
        await jobs.look()
        assert await reading == 100
        assert jobs.waits_for("low") is None


async def test_the_schedule_closes_and_opens() -> None:
    async with on_a_line(Limits(schedule=NIGHTS)) as jobs:
        job = await jobs.start("a", HIGH)
        assert jobs.running == set()
        assert job.error is not None
        assert job.error.kind == "download.waits_for_schedule"
        assert "22:00-07:00" in job.error.message
        assert "goes on at Mon 22:00" in job.error.message
        jobs.clock.advance(hours=10)
        await jobs.look()
        assert jobs.running == {"a"}
        assert job.error is None
        jobs.clock.advance(hours=9)
        await jobs.look()
        assert jobs.running == set()
        assert jobs.ended == ["download.waits_for_schedule"]


async def test_a_schedule_with_a_limit_outside_stops_nobody() -> None:
    limits = Limits(500_000, Schedule.parse("22:00-07:00; else 200k"))
    async with on_a_line(limits) as jobs:
        await jobs.start("a")
        assert jobs.running == {"a"}
        assert (jobs.line.limit_bps, jobs.line.is_open) == (200_000, False)
        jobs.clock.advance(hours=10)
        assert (jobs.line.limit_bps, jobs.line.is_open) == (500_000, True)
        changes = jobs.line.changes
        assert changes is not None
        assert f"{changes:%a %H:%M}" == "Tue 07:00"


async def test_on_a_metered_line_only_what_is_urgent_runs() -> None:
    async with on_a_line() as jobs:
        await jobs.start("a")
        await jobs.start("h", HIGH)
        jobs.line.set(Limits(metered=True))
        await settle()
        assert jobs.running == {"h"}
        assert jobs.ended == ["download.waits_for_line"]
        await jobs.start("b")
        assert jobs.waits_for("b") == "download.waits_for_line"
        jobs.line.set(Limits())
        await settle()
        assert jobs.running == {"h", "b"}


async def reads(allowance: Allowance, want: int) -> AsyncIterator[int]:
    while True:
        yield await allowance.grant(want)


async def test_grants_are_pieces_of_the_limit_and_keep_it() -> None:
    async with on_a_line(Limits(limit_bps=1_000_000)) as jobs:
        job = await jobs.start("a")
        a, got = jobs.allowed["a"], list[int]()
        assert a.seats == 8
        reader = asyncio.create_task(collect(reads(a, 1 << 20), got.append))
        for _ in range(50):
            jobs.clock.advance(0.1)
            await jobs.look()
        assert set(got) == {100_000}
        assert sum(got) <= 5 * 1_000_000 + 200_000
        assert sum(got) >= 5 * 1_000_000 - 200_000
        got.clear()
        job.limit_bps = 50_000
        for _ in range(100):
            jobs.clock.advance(0.1)
            await jobs.look()
        assert set(got[2:]) == {16 * 1024}
        assert sum(got[2:]) <= 10 * 50_000 + 2 * 16 * 1024
        jobs.line.set(Limits())
        job.limit_bps = None
        await jobs.look()
        assert got[-1] == 1 << 20, "no limit any more: whoever waited has all he wants"
        reader.cancel()


async def collect(numbers: AsyncIterator[int], into: Callable[[int], None]) -> None:
    async for number in numbers:
        into(number)
        await asyncio.sleep(0)


async def test_a_cancelled_reader_gives_back_what_it_was_granted() -> None:
    async with on_a_line(Limits(limit_bps=1_000_000)) as jobs:
        await jobs.start("a")
        a = jobs.allowed["a"]
        assert await a.grant(1 << 20) == 100_000
        reader = asyncio.create_task(a.grant(1 << 20))
        await settle()
        jobs.clock.advance(0.2)
        jobs.line.look()  # granted, not yet taken
        reader.cancel()
        await settle()
        assert [await a.grant(1 << 20) for _ in range(2)] == [100_000] * 2
        late = asyncio.create_task(a.grant(1 << 20))
        await settle()
        late.cancel()
        await settle()
        assert reader.cancelled()
        assert late.cancelled(), "the third had to wait"
