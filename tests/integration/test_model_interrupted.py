"""The resident model when others do not wait: a daemon that stops, a worker that hangs, a talk."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from moshid.errors import ModelError
from tests.integration.test_model_service import (
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


async def test_a_model_that_hangs_is_taken_back_by_force(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path, stop_timeout_s=0.5) as (service, bus):
        pid = (await service.load(paths, model="small", quality="bf16"))["pid"]
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        events = bus.subscribe(["model"])
        os.kill(pid, signal.SIGSTOP)
        await service.end_talk("t1")
        assert not psutil.pid_exists(pid)
        await seen(events, is_state("loading"))
        await seen(events, is_state("ready"))
        peer.ours.close()


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
        with pytest.raises(ModelError, match="gave way"):
            await bench
        await service.end_talk("t1")
        peer.ours.close()
