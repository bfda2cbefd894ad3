"""Several jobs on one line, with the whole engine: limits, turns, hours, priorities.

The line's clocks stand still but when a test puts them forward, so that what is allowed is exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from moshid.downloads.job import Job
from moshid.downloads.service import DownloadService
from moshid.downloads.states import JobState
from moshid.downloads.terms import Priority, Terms
from moshid.errors import InvalidParams
from moshid.events import Bus
from tests.fakes.downloads import PARTS, make_service, running
from tests.fakes.hand_clock import HandClock
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.repos import content

pytestmark = pytest.mark.asyncio

SIZE = 1_000_001
DEAD = {"bytes are refused": Odd(refuse_bytes=True), "the Hub is down": Odd(refuse=(503, {}))}
LOW, HIGH = Terms(Priority.LOW), Terms(Priority.HIGH)


@dataclass
class House:
    """A Hub with the repositories org/a, org/b and org/c, and a service on a hand-set clock."""

    folder: Path
    hub: OddHub
    repos: dict[str, OddRepo]
    bus: Bus
    clock: HandClock
    jobs_at_once: int
    service: DownloadService

    async def start(self, name: str, terms: Terms | None = None, **more: Any) -> str:
        """Start the job of org/``name``; returns its id."""
        job, _ = await self.service.start(f"org/{name}", terms=terms or Terms(), **more)
        return job.id

    async def when(
        self, holds: Callable[[], bool], step: Callable[[], None] = lambda: None
    ) -> None:
        """Return when ``holds`` is so; looked at, after a ``step``, whenever a job tells of
        itself."""
        subscription = self.bus.subscribe(["download"])
        try:
            async with asyncio.timeout(30):
                while not holds():
                    step()
                    await subscription.take()
        finally:
            subscription.close()

    def feeder(self, seconds: float, *ids: str) -> Callable[[], None]:
        """A step that puts the clock forward once the jobs have used what the last one gave, or
        tell that they got nothing of it: a debt may be larger."""
        last, told = -1, 0

        def step() -> None:
            nonlocal last, told
            came, told = sum(self.job(name).bytes_fetched for name in ids), told + 1
            if came != last or told > 50:
                last, told = came, 0
                self.clock.advance(seconds)

        return step

    async def done(self, *ids: str) -> None:
        """Wait for jobs to be done."""
        for name in ids:
            assert (await self.service.wait(name)).state is JobState.DONE

    def job(self, name: str) -> Job:
        """A job as it is."""
        return self.service.get(name)

    def waits_for(self, name: str) -> str | None:
        """The kind of what a job waits for."""
        error = self.job(name).error
        return error.kind if error else None


@asynccontextmanager
async def house(tmp_path: Path, *, jobs_at_once: int = 2) -> AsyncIterator[House]:
    files = {name: {"model.safetensors": content(SIZE, seed=i)} for i, name in enumerate("abc")}
    repos = {f"org/{name}": OddRepo(Odd(), found) for name, found in files.items()}
    clock, bus = HandClock(), Bus()
    async with OddHub(repos) as hub:
        service = service_at(tmp_path, hub, bus, clock, jobs_at_once)
        async with running(service):
            yield House(tmp_path, hub, repos, bus, clock, jobs_at_once, service)


def service_at(
    folder: Path, hub: OddHub, bus: Bus, clock: HandClock, jobs_at_once: int
) -> DownloadService:
    parts = replace(PARTS, poll_s=0.01, jobs_at_once=jobs_at_once, clocks=clock.clocks)
    return make_service(folder / "home", hub.endpoint, folder / "cache", bus=bus, parts=parts)


@pytest.mark.parametrize("whose", ["all", "its own"])
async def test_a_limit_is_kept(tmp_path: Path, whose: str) -> None:
    rate_bps, piece_bytes = 1_000_000, 100_000
    async with house(tmp_path) as h:
        if whose == "all":
            await h.service.controls.set_limits(limit_bps=rate_bps)
        job_id = await h.start("a", Terms(limit_bps=None if whose == "all" else rate_bps))
        began_s = h.clock.steady_s

        def step() -> None:
            came_bytes = h.job(job_id).bytes_fetched
            assert came_bytes <= rate_bps * (h.clock.steady_s - began_s) + 2 * piece_bytes
            h.clock.advance(0.05)

        await h.when(lambda: is_done(h, job_id), step)
        assert h.clock.steady_s - began_s >= (SIZE - 2 * piece_bytes) / rate_bps
        assert h.job(job_id).bytes_fetched == SIZE


def is_done(h: House, job_id: str) -> bool:
    return h.job(job_id).state is JobState.DONE


async def test_a_limit_can_be_lifted_and_changed_while_a_job_runs(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        a = await h.start("a", Terms(limit_bps=1_000))
        await h.when(lambda: h.job(a).state is JobState.DOWNLOADING)
        assert h.job(a).limit_bps == 1_000
        await h.service.controls.set_terms(a, Terms(limit_bps=None))
        await h.done(a)
        assert h.job(a).limit_bps is None


async def test_the_line_is_shared_by_weight(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.service.controls.set_limits(limit_bps=500_000)
        a, b = await h.start("a"), await h.start("b", HIGH)
        most, feed = 0, h.feeder(0.11, a, b)

        def step() -> None:
            nonlocal most
            most = max(most, h.job(a).connections + h.job(b).connections)
            feed()

        await h.when(lambda: h.job(a).connections > 0 and h.job(b).connections > 0)
        await h.when(lambda: h.job(b).bytes_fetched == SIZE, step)
        assert h.job(a).bytes_fetched < 0.6 * SIZE, "the other had four times as much"
        assert most <= 4 + 1, "half a MB/s is worth four connections, whoever has them"
        await h.when(lambda: is_done(h, a) and is_done(h, b), step)


async def test_a_high_job_overtakes(tmp_path: Path) -> None:
    async with house(tmp_path, jobs_at_once=1) as h:
        h.repos["org/a"].odd = Odd(refuse_bytes=True)
        a = await h.start("a")
        await h.hub.refused.wait()
        b = await h.start("b")
        await h.when(lambda: h.waits_for(b) == "download.waits")
        await h.done(await h.start("c", HIGH))
        assert h.job(b).state is JobState.QUEUED
        h.repos["org/a"].odd = Odd()
        await h.done(a, b)


@pytest.mark.parametrize("dead", DEAD)
async def test_a_job_that_gets_nowhere_does_not_hold_up_a_third(tmp_path: Path, dead: str) -> None:
    async with house(tmp_path, jobs_at_once=2) as h:
        for name in "ab":
            h.repos[f"org/{name}"].odd = DEAD[dead]
        a, b = await h.start("a"), await h.start("b")
        await h.when(lambda: bool(h.job(a).error and h.job(b).error))
        c = await h.start("c")
        await h.when(lambda: h.waits_for(c) == "download.waits")
        await h.when(lambda: is_done(h, c), lambda: h.clock.advance(11))
        assert h.job(a).state in (JobState.PROBING, JobState.DOWNLOADING)
        for name in "ab":
            h.repos[f"org/{name}"].odd = Odd()
        await h.done(a, b)


async def test_a_low_job_gives_way(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        a = await h.start("a", Terms(limit_bps=400_000))
        await h.when(lambda: h.job(a).bytes_fetched > 0)
        low = await h.start("b", LOW)
        await h.when(lambda: h.waits_for(low) == "download.waits")
        feed, most = h.feeder(0.11, a), 0

        def wait() -> None:
            assert h.job(a).bytes_fetched == SIZE or h.job(low).bytes_fetched == 0
            feed()

        await h.when(lambda: is_done(h, a), wait)

        def step() -> None:
            nonlocal most
            most = max(most, h.job(low).connections)
            h.clock.advance(4.0)

        await h.when(lambda: is_done(h, low), step)
        assert most <= 2


async def test_the_schedule_closes_and_opens_and_is_remembered(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.repos["org/a"].odd = Odd(refuse_bytes=True)
        a = await h.start("a")
        await h.hub.refused.wait()
        told = await h.service.controls.set_limits(schedule="22:00-07:00")
        assert told["open"] is False
        assert told["until"] == "2025-06-02T22:00+00:00"
        await h.when(lambda: h.job(a).state is JobState.QUEUED)
        assert h.waits_for(a) == "download.waits_for_schedule"
        b = await h.start("b")
        await h.when(lambda: h.waits_for(b) == "download.waits_for_schedule")
        assert (await h.service.pause(b)).state is JobState.PAUSED
        assert (await h.service.resume(b)).state is JobState.QUEUED
        h.repos["org/a"].odd = Odd()
    again = service_at(tmp_path, h.hub, h.bus, h.clock, 2)
    async with OddHub(h.repos), running(again):
        assert again.controls.limits()["schedule"] == "22:00-07:00"
        assert {j.state for j in again.list()} == {JobState.QUEUED}


async def test_jobs_go_on_when_the_schedule_opens(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.service.controls.set_limits(schedule="22:00-07:00")
        a, b = await h.start("a"), await h.start("b", HIGH)
        await h.when(lambda: h.waits_for(a) == h.waits_for(b) == "download.waits_for_schedule")
        assert h.job(a).bytes_fetched == h.job(b).bytes_fetched == 0
        h.clock.advance(hours=10)
        await h.done(a, b)
        assert h.job(a).error is None


async def test_on_a_metered_line_only_what_is_urgent_runs(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.service.controls.set_limits(metered=True)
        a, b = await h.start("a"), await h.start("b")
        await h.when(lambda: h.waits_for(a) == h.waits_for(b) == "download.waits_for_line")
        await h.service.controls.set_terms(a, HIGH)
        await h.done(a)
        assert h.waits_for(b) == "download.waits_for_line"
        await h.service.controls.set_limits(metered=False)
        await h.done(b)


async def test_terms_outlive_the_process_and_a_second_start(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.repos["org/a"].odd = Odd(refuse_bytes=True)
        a = await h.start("a", Terms(Priority.LOW, 5_000))
        assert await h.start("a") == a
        assert await h.start("a", HIGH) == a
        assert (h.job(a).priority, h.job(a).limit_bps) == (Priority.HIGH, 5_000)
    again = service_at(tmp_path, h.hub, h.bus, h.clock, 2)
    async with OddHub(h.repos), running(again):
        assert (again.get(a).priority, again.get(a).limit_bps) == (Priority.HIGH, 5_000)


async def test_a_setting_that_is_changed_outdoes_what_was_set_at_run_time(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.service.controls.set_limits(limit_bps=5_000, metered=True)
        with pytest.raises(InvalidParams, match="schedule: 'nights'"):
            await h.service.controls.set_limits(schedule="nights")
    (tmp_path / "home").mkdir(exist_ok=True)
    again = make_service(
        tmp_path / "home", h.hub.endpoint, tmp_path / "cache", set_to={"download_limit_bps": 9_000}
    )
    async with running(again):
        limits = again.controls.limits()
        assert (limits["limit_bps"], limits["metered"]) == (9_000, True)
