"""The machine is kept awake exactly while a download runs, and let go when the daemon dies."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads import awake
from moshid.downloads.awake import PATIENCE_S, Awake, Child, Progress
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.repos import REPO, make_repo

pytestmark = pytest.mark.asyncio

# Says that it runs and whether a pipe is its standard input, then waits for the end of that, as
# systemd-inhibit's cat does.
HOLDER = """
import os, stat, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(fd, b"%d %d" % (os.getpid(), stat.S_ISFIFO(os.fstat(0).st_mode)))
sys.stdin.read()
"""
# A daemon in small: holds a child until it is killed.
DAEMON = """
import asyncio, sys
from moshid.downloads.awake import Child
async def main():
    async with Child(sys.argv[1:])():
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""


class Recorder:
    """An inhibitor that counts: how often it was taken, whether it is held."""

    def __init__(self) -> None:
        self.taken = 0
        self.held = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        self.taken += 1
        self.held.set()
        self.free.clear()
        try:
            yield
        finally:
            self.held.clear()
            self.free.set()


class Jobs:
    """Jobs on a bus, by id."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.states: dict[str, JobState] = {}
        self.bytes = 0
        self.bus.provide_snapshot("download", lambda: {"jobs": [*map(self._job, self.states)]})

    def move(self, name: str, state: JobState) -> None:
        self.states[name] = state
        self.bus.publish("download", {"job": self._job(name)}, key=name)

    def _job(self, name: str) -> dict[str, object]:
        return {"id": name, "state": self.states[name], "bytes_fetched": self.bytes}


@asynccontextmanager
async def watching(
    bus: Bus, recorder: Recorder, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[None]:
    """An Awake at work."""
    started = asyncio.Event()
    awake = Awake(bus, enabled=True, inhibitor=recorder, clock=clock)
    task = asyncio.create_task(awake.run(started=started))
    await started.wait()
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_it_is_held_once_while_any_job_is_active() -> None:
    jobs, recorder = Jobs(), Recorder()
    jobs.move("old", JobState.DONE)
    async with watching(jobs.bus, recorder):
        for state in (JobState.QUEUED, JobState.PAUSED, JobState.QUEUED):
            jobs.move("a", state)
        jobs.move("a", JobState.DOWNLOADING)
        await recorder.held.wait()
        jobs.move("b", JobState.PROBING)
        jobs.move("a", JobState.DONE)
        jobs.move("b", JobState.PUBLISHING)
        jobs.move("b", JobState.DONE)
        await recorder.free.wait()
        assert recorder.taken == 1, "from the first job's start to the last one's end"
        jobs.move("a", JobState.REPAIRING)
        await recorder.held.wait()
        assert recorder.taken == 2
    assert recorder.free.is_set(), "let go when the daemon stops"


async def test_a_job_that_is_active_already_is_seen() -> None:
    jobs, recorder = Jobs(), Recorder()
    jobs.move("a", JobState.DOWNLOADING)
    async with watching(jobs.bus, recorder):
        assert await recorder.held.wait()
        jobs.move("a", JobState.PAUSED)
        assert await recorder.free.wait()


async def test_what_counts_as_getting_on() -> None:
    now_s = 1000.0
    progress = Progress(lambda: now_s)
    job = {"id": "a", "state": JobState.DOWNLOADING, "bytes_fetched": 0, "bytes_done": 0}
    for change in ({}, {"bytes_fetched": 5}, {"bytes_done": 3}, {"state": JobState.VERIFYING}):
        job |= change
        assert progress.made(job)
        now_s += PATIENCE_S - 1
        assert progress.made(job), "an hour offline is waited for"
    now_s += 1
    assert not progress.made(job)
    assert not progress.made(job | {"state": JobState.PAUSED})
    assert progress.made(job), "begun anew"


async def test_a_line_that_is_away_for_hours_does_not_keep_the_machine_awake() -> None:
    jobs, recorder = Jobs(), Recorder()
    now_s = 1000.0
    async with watching(jobs.bus, recorder, lambda: now_s):
        jobs.move("a", JobState.DOWNLOADING)
        await recorder.held.wait()
        now_s += PATIENCE_S
        jobs.move("a", JobState.DOWNLOADING)
        await recorder.free.wait()
        assert recorder.taken == 1
        jobs.bytes = 6
        jobs.move("a", JobState.DOWNLOADING)
        await recorder.held.wait()
        assert recorder.taken == 2, "the next byte takes it again"


async def test_it_is_never_held_if_not_wanted() -> None:
    jobs, recorder = Jobs(), Recorder()
    jobs.move("a", JobState.DOWNLOADING)
    started = asyncio.Event()
    await Awake(jobs.bus, enabled=False, inhibitor=recorder).run(started=started)
    assert started.is_set()
    assert recorder.taken == 0


async def test_a_real_download_holds_it(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", 1_000_001)
    bus, recorder = Bus(), Recorder()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(make_service(tmp_path / "h", hub.endpoint, tmp_path / "c", bus=bus)) as service,
        watching(bus, recorder),
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.state is JobState.DOWNLOADING))
        job, _ = await service.start(REPO)
        await moving
        await recorder.held.wait()
        await service.pause(job.id)
        await recorder.free.wait()
        await service.resume(job.id)
        await recorder.held.wait()
        assert (await service.wait(job.id)).state is JobState.DONE
        await recorder.free.wait()


def holder(tmp_path: Path) -> tuple[Sequence[str], int]:
    """A command that holds, and a pipe from which what it says, then its end, can be read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return (sys.executable, "-c", HOLDER, str(path)), os.open(path, os.O_RDONLY | os.O_NONBLOCK)


async def read_some(fd: int) -> bytes:
    """What comes next from a pipe; nothing when all writers have gone."""
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, readable.set)
    try:
        await readable.wait()
        return os.read(fd, 100)
    finally:
        loop.remove_reader(fd)


async def test_the_child_lives_as_long_as_the_block(tmp_path: Path) -> None:
    command, fd = holder(tmp_path)
    async with Child(command)():
        pid, reads_a_pipe = map(int, (await read_some(fd)).split())
        assert reads_a_pipe
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    os.close(fd)


async def test_the_child_dies_with_a_killed_daemon(tmp_path: Path) -> None:
    command, fd = holder(tmp_path)
    daemon = await asyncio.create_subprocess_exec(sys.executable, "-c", DAEMON, *command)
    pid, reads_a_pipe = map(int, (await read_some(fd)).split())
    assert (pid != daemon.pid, reads_a_pipe) == (True, 1)
    daemon.send_signal(signal.SIGKILL)
    await daemon.wait()
    assert await read_some(fd) == b"", "its end of the pipe is closed: it has ended"
    os.close(fd)


async def test_a_missing_tool_is_noted_once_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, awake.__name__)
    child = Child((str(tmp_path / "no-such-tool"),))
    for _ in range(2):
        async with child():
            pass
    (record,) = [r for r in caplog.records if r.name == awake.__name__]
    assert record.levelno == logging.DEBUG
    assert "no-such-tool" in record.getMessage()


async def test_a_tool_that_ends_at_once_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, awake.__name__)
    noted = asyncio.Event()

    def note(_record: logging.LogRecord) -> bool:
        noted.set()
        return True

    logging.getLogger(awake.__name__).addFilter(note)
    child = Child((sys.executable, "-c", "raise SystemExit(3)"))
    try:
        async with child():
            await noted.wait()
        async with child():
            pass
    finally:
        logging.getLogger(awake.__name__).removeFilter(note)
    (record,) = [r for r in caplog.records if r.name == awake.__name__]
    assert "ended with 3" in record.getMessage()


async def test_the_systems_own_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert awake.command() == ("/usr/bin/caffeinate", "-i", "-w", str(os.getpid()))
    monkeypatch.setattr("sys.platform", "linux")
    tool, *flags, program = awake.command()
    assert (tool, program) == ("systemd-inhibit", "cat")
    assert {"--what=sleep", "--mode=block", "--who=moshid"} < set(flags)
