"""Worker processes: the real exec, handshake, calls, descriptors, death and orphans."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from moshid import supervisor
from moshid.errors import BadCheckpoint, WorkerDied
from moshid.settings import Settings
from moshid.supervisor import WorkerProcess
from tests.fakes.deaths import kill_unnoticed

ECHO = "tests.fakes.echo_worker"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, socket=tmp_path / "s", stop_timeout_s=4.0)


@pytest.fixture
def told() -> asyncio.Queue[tuple[str, dict[str, Any]]]:
    return asyncio.Queue()


@pytest_asyncio.fixture
async def worker(
    settings: Settings, told: asyncio.Queue[tuple[str, dict[str, Any]]]
) -> AsyncIterator[WorkerProcess]:
    process = await WorkerProcess.start(
        ECHO, settings, on_event=lambda event, data: told.put_nowait((event, data))
    )
    yield process
    await process.stop()
    assert process.exited.done()


@pytest.mark.asyncio
async def test_it_answers_and_tells(
    worker: WorkerProcess, told: asyncio.Queue[tuple[str, dict[str, Any]]]
) -> None:
    big = {"text": "é" * 300_000}
    assert await worker.call("echo", big) == big
    await worker.call("notify", {"n": 1})
    assert await told.get() == ("told", {"n": 1})


@pytest.mark.asyncio
async def test_a_ctrl_c_that_comes_before_it_listens_leaves_it_alone(settings: Settings) -> None:
    early = await WorkerProcess.start(
        "tests.fakes.interrupted_worker", settings, on_event=lambda *_told: None
    )
    assert await early.call("echo", {"n": 1}) == {"n": 1}
    await early.stop()


@pytest.mark.asyncio
async def test_errors_cross_the_process_boundary_by_kind(worker: WorkerProcess) -> None:
    with pytest.raises(BadCheckpoint, match="no such weights") as caught:
        await worker.call("fail")
    assert caught.value.hint == "fetch them"


@pytest.mark.asyncio
async def test_descriptors_travel(worker: WorkerProcess) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            await worker.call("write_to_fd", fds=[theirs.fileno()])
        assert ours.recv(100) == b"hello through the descriptor"
        assert ours.recv(100) == b"", "the worker's and our copy are closed"


@pytest.mark.asyncio
async def test_death_fails_the_waiting_call(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerDied):
        await worker.call("crash")
    assert await worker.exited == -signal.SIGKILL
    with pytest.raises(WorkerDied):
        await worker.call("echo")


@pytest.mark.asyncio
async def test_a_call_to_one_whose_death_is_not_noticed_yet_fails_once_it_is(
    worker: WorkerProcess, caplog: pytest.LogCaptureFixture
) -> None:
    kill_unnoticed(worker.pid)
    with pytest.raises(WorkerDied, match="is gone"):
        await worker.call("echo")
    assert not worker.alive
    gc.collect()
    assert "never retrieved" not in caplog.text


@pytest.mark.asyncio
async def test_what_a_worker_says_last_is_heard_before_it_is_gone(
    worker: WorkerProcess, told: asyncio.Queue[tuple[str, dict[str, Any]]]
) -> None:
    """It may be why it ends."""
    with pytest.raises(WorkerDied):
        await worker.call("farewell", {"words": 5000})
    assert await worker.exited == 3
    assert [told.get_nowait()[1]["n"] for _ in range(told.qsize())] == list(range(5000))


@pytest.mark.asyncio
async def test_a_busy_worker_still_answers_pings_and_can_be_killed(worker: WorkerProcess) -> None:
    await worker.call("busy")
    assert "busy_with" in await worker.call("ping", timeout_s=30)
    await worker.kill()
    assert await worker.exited == -signal.SIGKILL


@pytest.mark.asyncio
async def test_a_silent_worker_is_killed(tmp_path: Path) -> None:
    impatient = Settings(
        home=tmp_path,
        socket=tmp_path / "s",
        worker_heartbeat_s=0.05,
        worker_heartbeat_missed_max=2,
        stop_timeout_s=2.0,
    )
    worker = await WorkerProcess.start(ECHO, impatient, on_event=lambda _event, _data: None)
    os.kill(worker.pid, signal.SIGSTOP)
    assert await worker.exited == -signal.SIGKILL
    await worker.stop()


@pytest.mark.asyncio
async def test_a_worker_that_cannot_start_is_reported(settings: Settings) -> None:
    with pytest.raises(WorkerDied, match="did not start"):
        await WorkerProcess.start("tests.fakes.no_such", settings, on_event=lambda _e, _d: None)


@pytest.mark.asyncio
async def test_a_worker_dies_with_its_parent(worker: WorkerProcess) -> None:
    process = psutil.Process(worker.pid)
    worker._sock.shutdown(socket.SHUT_RDWR)
    assert await worker.exited == 0
    assert not process.is_running()


@pytest.mark.asyncio
async def test_one_that_refuses_to_stop_is_ended_all_the_same(worker: WorkerProcess) -> None:
    await worker.call("refuse_to_stop")
    await worker.stop()
    assert worker.exited.result() in (-signal.SIGTERM, -signal.SIGKILL)


@pytest.mark.asyncio
async def test_whoever_waits_for_its_end_may_be_cancelled(worker: WorkerProcess) -> None:
    killing = asyncio.create_task(worker.kill())
    await asyncio.sleep(0)
    killing.cancel()
    await asyncio.wait({killing})
    await worker.stop()
    assert worker.exited.result() == -signal.SIGKILL


@pytest.mark.asyncio
async def test_no_descriptor_left_is_told_by_kind(settings: Settings) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        with contextlib.suppress(OSError):
            while True:  # the limit counts numbers, not descriptors: fill the holes below it
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        with pytest.raises(WorkerDied, match="cannot be started"):
            await WorkerProcess.start(ECHO, settings, on_event=lambda _e, _d: None)
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.asyncio
async def test_a_start_that_is_given_up_leaves_no_task(settings: Settings) -> None:
    before = asyncio.all_tasks()
    starting = asyncio.create_task(
        WorkerProcess.start(ECHO, settings, on_event=lambda _e, _d: None)
    )
    while True:
        await asyncio.sleep(0)
        if any(task.get_name() == "fakes-worker" for task in asyncio.all_tasks() - before):
            break
    starting.cancel()
    await asyncio.wait({starting})
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.asyncio
@pytest.mark.parametrize(("silent_for", "until_s"), [(12, 60.0), (3, 15.0)])
async def test_a_missed_ping_costs_one_heartbeat(silent_for: int, until_s: float) -> None:
    now_s = 0.0

    async def unanswered() -> None:
        nonlocal now_s
        now_s += 5.0
        raise WorkerDied("no answer")

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    await supervisor.silent(unanswered, 5.0, silent_for, clock=lambda: now_s, sleep=sleep)
    assert now_s == until_s


@pytest.mark.asyncio
async def test_an_answer_forgives_the_misses_before_it() -> None:
    answers = iter([False, True, False, False])
    pauses: list[float] = []

    async def ping() -> None:
        if not next(answers):
            raise WorkerDied("no answer")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    await supervisor.silent(ping, 5.0, 2, clock=lambda: 0.0, sleep=sleep)
    assert (list(answers), pauses) == ([], [5.0] * 4)
