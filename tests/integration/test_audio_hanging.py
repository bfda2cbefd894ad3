"""A sound server that hangs, stopped by a signal: as a talk begins, and as it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from moshid.audio.service import AudioService
from moshid.supervisor import WorkerProcess
from tests.fakes.jack_rig import jack_server
from tests.integration.test_audio_reopening import JACK, echo, next_of
from tests.integration.test_audio_service import Listener, audio_service, spare_pid


async def looked_for_devices(service: AudioService) -> WorkerProcess:
    """The spare, which need not ask the sound server for that any more."""
    await spare_pid(service)
    assert service._spares.worker is not None
    await service._spares.worker.call("find", {})
    return service._spares.worker


def until_gone(pid: int) -> None:
    while psutil.pid_exists(pid):
        time.sleep(0.02)


@pytest.mark.asyncio
async def test_a_server_that_hangs_as_the_talk_begins_is_told_before_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await looked_for_devices(service)
            server.signal(signal.SIGSTOP)
            start = asyncio.create_task(service.start_talk(echo(**JACK), None, None, listener))
            try:
                warned = await next_of(listener, "warning")
            finally:
                server.signal(signal.SIGCONT)
            await start
            await next_of(listener, "level", warned)
            await service.stop_talk("a")
    assert "not opened" in listener.events[warned][1]["message"]


@pytest.mark.asyncio
async def test_a_stop_while_a_server_hangs_waits_for_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_service(tmp_path, stop_timeout_s=30) as service:
            worker = await looked_for_devices(service)
            server.signal(signal.SIGSTOP)
            start = asyncio.create_task(service.start_talk(echo(**JACK), None, None, listener))
            await next_of(listener, "warning")
            start.cancel()
            asyncio.get_running_loop().call_later(3, os.kill, worker.pid, signal.SIGKILL)
            await asyncio.wait({start})
            assert not worker.exited.done()
            await worker.exited
            server.signal(signal.SIGCONT)


@pytest.mark.asyncio
async def test_a_server_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped just before, so that the talk does not know yet."""
    listener = Listener()
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(**JACK), None, None, listener)
            await next_of(listener, "level")
            (pid,) = [w["pid"] for w in service.workers() if w["state"] == "talking"]
            server.signal(signal.SIGSTOP)
            try:
                stats = await service.stop_talk("a")
                await asyncio.to_thread(until_gone, pid)
            finally:
                server.signal(signal.SIGCONT)
    assert stats["frames"] > 0
