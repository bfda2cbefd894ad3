"""The resident model when others do not wait: a daemon that stops, a worker that hangs, a talk."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from moshid.errors import ModelWanted
from tests.fakes.model_rig import (
    SAMPLING,
    Ears,
    Peer,
    is_state,
    running,
    seen,
    small_paths,
)

pytestmark = pytest.mark.asyncio


async def test_the_daemon_stops_while_the_model_is_unloaded(tmp_path: Path) -> None:
    """The end waits for what was begun: no process is left to find out by itself."""
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, _bus):
        pid = (await service.load(paths, model="small", quality="bf16"))["pid"]
        unloading = asyncio.create_task(service.unload())
        for _ in range(5):
            await asyncio.sleep(0)
        status = service.status()
        assert (status["state"], status["pid"]) == ("unloading", None), "it is on its way"
    assert not psutil.pid_exists(pid)
    assert (await unloading)["state"] == "unloaded"


async def test_a_model_that_hangs_when_its_talk_ends_is_left_to_the_watchdog(
    tmp_path: Path,
) -> None:
    paths = small_paths(tmp_path / "small")
    quick: dict[str, Any] = {
        "stop_timeout_s": 0.5,
        "model_step_timeout_s": 1.0,
        "model_pulse_s": 0.0,
    }
    async with running(tmp_path, **quick) as (service, bus):
        pid = (await service.load(paths, model="small", quality="bf16"))["pid"]
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        events = bus.subscribe(["model"])
        os.kill(pid, signal.SIGSTOP)
        await service.end_talk("t1")
        assert psutil.pid_exists(pid), "it may only be slow"
        died = (await seen(events, lambda data: data["event"] == "worker_died"))[-1]
        assert died["kind"] == "model.stalled"
        await seen(events, is_state("ready"))
        peer.ours.close()


async def test_a_model_that_is_slow_when_its_talk_ends_stays(tmp_path: Path) -> None:
    """It takes the request when it comes to it, and the next talk."""
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path, stop_timeout_s=0.1, model_pulse_s=0.0) as (service, _bus):
        pid = (await service.load(paths, model="small", quality="bf16"))["pid"]
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        os.kill(pid, signal.SIGSTOP)
        await service.end_talk("t1")
        assert service.status()["state"] == "ready"
        os.kill(pid, signal.SIGCONT)
        await service.begin_talk("t2", 1, Peer().theirs, SAMPLING, **Ears().hooks())
        await service.end_talk("t2")
        assert service.status()["pid"] == pid


async def test_a_talk_that_cannot_be_ended_in_order_is_over_all_the_same(tmp_path: Path) -> None:
    """Whoever waits for the worker may be cancelled: the use is over, and the model ready."""
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path, keep_alive="1h", model_pulse_s=0.0) as (service, _bus):
        pid = (await service.load(paths, model="small", quality="bf16"))["pid"]
        await service.begin_talk("t1", 1, Peer().theirs, SAMPLING, **Ears().hooks())
        os.kill(pid, signal.SIGSTOP)
        ending = asyncio.create_task(service.end_talk("t1"))
        for _ in range(5):
            await asyncio.sleep(0)
        ending.cancel()
        await asyncio.wait({ending})
        status = service.status()
        os.kill(pid, signal.SIGCONT)
        assert status["state"] == "ready"
        assert status["until"] is not None


async def test_a_benchmark_gives_way_to_a_talk_but_not_to_another(tmp_path: Path) -> None:
    """Also one whose client has left, and which nobody waits for any more."""
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, _bus):
        await service.load(paths, model="small", quality="bf16")
        both = await asyncio.gather(service.bench(5), service.bench(5))
        assert [b["steps"] for b in both] == [5, 5]
        bench = asyncio.create_task(service.bench(2000))
        await asyncio.sleep(0)
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        with pytest.raises(ModelWanted, match="gave way"):
            await bench
        await service.end_talk("t1")
        peer.ours.close()
