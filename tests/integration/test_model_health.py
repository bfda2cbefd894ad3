"""A sick model, for real: each fault ends a real process, is told by kind, and a talk goes on."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
import pytest

from moshid.errors import ModelError, ModelOutOfMemory
from moshid.events import Subscription
from moshid.model import pressure
from moshid.model.files import CheckpointPaths
from moshid.model.monitor import STUCK_FRAMES
from moshid.model.service import ModelService
from tests.fakes.model_rig import (
    Ears,
    Peer,
    is_state,
    running,
    seen,
    small_paths,
)
from tests.fakes.talk_parts import PATHS

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("toy")]

TOY = "tests.fakes.toy_worker"
PATH: CheckpointPaths = PATHS
QUICK: dict[str, Any] = {
    "worker_module": TOY,
    "model_step_timeout_s": 2.0,
    "model_pulse_s": 0.0,
}

KINDS = {
    "not_finite": "model.not_finite",
    "malloc": "model.out_of_memory",
    "memory": "model.out_of_memory",
    "device": "model.step_failed",
    "hang": "model.stalled",
    "stuck": "model.stuck",
    "killed": "model.worker_died",
}


async def load(service: ModelService, **more: Any) -> dict[str, Any]:
    return await service.load(PATH, model="toy", quality="bf16", **more)


async def talk(service: ModelService, ears: Ears, epoch: int) -> Peer:
    peer = Peer(epoch)
    await service.begin_talk("t1", epoch, peer.theirs, {"seed": 1}, **ears.hooks())
    return peer


async def speak_until_it_is_gone(peer: Peer, said: tuple[int, ...] | None = None) -> int:
    """Send ``said``, or frames that vary, until the other end closes; how many were answered."""
    for frame in range(10 * STUCK_FRAMES):
        try:
            await peer.ask(frame, said or (1 + frame % 3, 2))
        except (AssertionError, OSError):
            return frame
    raise AssertionError("it is as well as ever")


async def deaths(events: Subscription, state: str) -> list[dict[str, Any]]:
    told = await seen(events, is_state(state))
    return [e for e in told if e["event"] == "worker_died"]


@pytest.mark.parametrize("fault", list(KINDS))
async def test_a_talk_goes_on_after_every_fault(tmp_path: Path, toy: Path, fault: str) -> None:
    (toy / "faults").write_text(f"{fault} 4\n")
    async with running(tmp_path, **QUICK) as (service, bus):
        first = await load(service)
        ears = Ears()
        peer = await talk(service, ears, 1)
        events = bus.subscribe(["model"])
        answered = await speak_until_it_is_gone(peer)
        assert answered == (4 + STUCK_FRAMES if fault == "stuck" else 4)
        (death,) = await deaths(events, "ready")
        assert death["kind"] == death["status"]["error"]["kind"] == KINDS[fault]
        assert death["status"]["state"] == "loading"
        assert (await ears.gone.get()).kind == KINDS[fault]
        await ears.restarted.wait()
        status = service.status()
        assert (status["state"], status["error"], status["restarts"]) == ("ready", None, 1)
        assert status["last_fault"]["kind"] == KINDS[fault]
        assert status["last_fault"]["message"]
        assert status["last_fault"]["at"].endswith("Z")
        assert status["pid"] != first["pid"]
        assert not psutil.pid_exists(first["pid"])
        again = await talk(service, ears, 2)
        assert (await again.ask(0, (8, 9))).tokens == (8, 9), "with a fresh context"
        assert ears.failed.empty()
        await service.end_talk("t1")


async def test_too_many_faults_in_a_row_are_the_end_and_say_why(tmp_path: Path, toy: Path) -> None:
    (toy / "faults").write_text("not_finite 2\ndevice 2\n")
    async with running(tmp_path, model_restart_max=1, **QUICK) as (service, bus):
        await load(service)
        ears = Ears()
        await speak_until_it_is_gone(await talk(service, ears, 1))
        await ears.restarted.wait()
        events = bus.subscribe(["model"])
        await speak_until_it_is_gone(await talk(service, ears, 2))
        assert [d["kind"] for d in await deaths(events, "failed")] == ["model.step_failed"]
        error = await ears.failed.get()
        assert error.kind == "model.crash_loop"
        assert error.facts["cause"] == "model.step_failed"
        assert "GPU Hang" in error.message
        status = service.status()
        assert (status["state"], status["error"]["cause"]) == ("failed", "model.step_failed")
        assert (await load(service))["state"] == "ready", "an explicit load starts anew"


async def test_a_process_that_is_stopped_as_a_whole_is_replaced(tmp_path: Path) -> None:
    """SIGSTOP: not even its control thread answers."""
    async with running(tmp_path, **QUICK) as (service, bus):
        status = await load(service)
        ears = Ears()
        await (await talk(service, ears, 1)).ask(0, (1, 2))
        events = bus.subscribe(["model"])
        os.kill(status["pid"], signal.SIGSTOP)
        assert [d["kind"] for d in await deaths(events, "ready")] == ["model.stalled"]
        await ears.restarted.wait()
        await service.end_talk("t1")


async def test_a_fault_in_a_benchmark_is_told_and_healed(tmp_path: Path, toy: Path) -> None:
    (toy / "faults").write_text("device 3\n")
    async with running(tmp_path, **QUICK) as (service, bus):
        await load(service)
        events = bus.subscribe(["model"])
        with pytest.raises(ModelError) as caught:
            await service.bench(10)
        assert caught.value.kind == "model.step_failed"
        assert [d["kind"] for d in await deaths(events, "ready")] == ["model.step_failed"]
        assert (await service.bench(10))["steps"] == 10


async def test_an_idle_model_that_falls_ill_is_found_by_its_pulse(
    tmp_path: Path, toy: Path
) -> None:
    (toy / "faults").write_text("hang 2\n")
    async with running(tmp_path, **{**QUICK, "model_pulse_s": 0.01}) as (service, bus):
        await load(service)
        events = bus.subscribe(["model"])
        service.note_call()
        assert [d["kind"] for d in await deaths(events, "ready")] == ["model.stalled"]


async def test_no_memory_is_final_at_the_first_load_and_may_pass_later(
    tmp_path: Path, toy: Path
) -> None:
    (toy / "faults").write_text("load\nkilled 1\nload\nload\n")
    async with running(tmp_path, **QUICK) as (service, bus):
        with pytest.raises(ModelOutOfMemory, match="no room"):
            await load(service)
        await load(service)
        ears = Ears()
        events = bus.subscribe(["model"])
        await speak_until_it_is_gone(await talk(service, ears, 1))
        kinds = [d["kind"] for d in await deaths(events, "ready")]
        assert kinds == ["model.worker_died", "model.out_of_memory", "model.out_of_memory"]
        await ears.restarted.wait()
        assert ears.failed.empty()
        await service.end_talk("t1")


async def test_numbers_that_are_none_are_found_in_a_real_model(tmp_path: Path) -> None:
    """One row of one table is damaged: all is well until the user says just that token."""
    paths = small_paths(tmp_path / "small")
    weights = mx.load(str(paths.weights))
    damaged = "audio_embs.4.weight"
    mx.eval(weights)  # all read, before the file is written over
    weights[damaged][63] = float("nan")
    mx.save_safetensors(str(paths.weights), weights)
    async with running(tmp_path) as (service, bus):
        await service.load(paths, model="small", quality="bf16")
        ears = Ears()
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, {"seed": 1}, **ears.hooks())
        await peer.ask(0, (62, 1, 1, 1))
        await peer.ask(1, (62, 1, 1, 1))
        events = bus.subscribe(["model"])
        assert await speak_until_it_is_gone(peer, (63, 1, 1, 1)) < 3, "heard in the next step"
        assert [d["kind"] for d in await deaths(events, "ready")] == ["model.not_finite"]
        assert (await ears.gone.get()).kind == "model.not_finite"
        await ears.restarted.wait()
        again = Peer(2)
        await service.begin_talk("t1", 2, again.theirs, {"seed": 1}, **ears.hooks())
        await again.ask(0, (62, 1, 1, 1))
        await service.end_talk("t1")


async def test_a_kill_for_want_of_memory_is_told_as_such(tmp_path: Path, toy: Path) -> None:
    """The kernel counts its kills: one more than when the process was started."""
    (toy / "faults").write_text("killed 1\n")
    kills = itertools.count(7)
    system = pressure.System(lambda: None, lambda: next(kills))
    async with running(tmp_path, system=system, **QUICK) as (service, bus):
        await load(service)
        events = bus.subscribe(["model"])
        ears = Ears()
        await speak_until_it_is_gone(await talk(service, ears, 1))
        assert [d["kind"] for d in await deaths(events, "ready")] == ["model.out_of_memory"]
        assert (await ears.gone.get()).kind == "model.out_of_memory"
        await service.end_talk("t1")


async def test_a_rejoin_that_meets_a_sick_model_waits_for_the_next(
    tmp_path: Path, toy: Path
) -> None:
    """The step that warms it for the talk fails: the talk is told by kind, and stays the talk."""
    (toy / "faults").write_text("killed 1\ndevice 0\n")
    async with running(tmp_path, **QUICK) as (service, _bus):
        await load(service)
        ears = Ears()
        await speak_until_it_is_gone(await talk(service, ears, 1))
        await ears.restarted.wait()
        ears.restarted.clear()
        with pytest.raises(ModelError) as caught:
            await talk(service, ears, 2)
        assert caught.value.kind == "model.step_failed"
        await ears.restarted.wait()
        assert (await (await talk(service, ears, 3)).ask(0, (1, 2))).tokens == (1, 2)
        await service.end_talk("t1")


async def test_the_last_real_step_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, **QUICK) as (service, _bus):
        assert service.status()["last_step"] is None
        loaded = (await load(service))["last_step"]
        assert loaded["ms"] == 2.0
        await service.bench(3)
        peer = await talk(service, Ears(), 1)
        for frame in range(12):
            await peer.ask(frame, (1, 2))
        await service.end_talk("t1")
        told = service.status()["last_step"]
        assert told["at"] > loaded["at"]
        assert told["ms"] >= 0.0
