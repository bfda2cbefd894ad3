"""The resident model with the real worker process: load, join, switch, unload, refuse."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moshid.demo import parrot
from moshid.errors import (
    BadCheckpoint,
    ModelCrashLoop,
    ModelNotLoaded,
)
from tests.fakes.model_rig import (
    demo_paths,
    is_state,
    running,
    seen,
    small_paths,
)


@pytest.mark.asyncio
async def test_loads_the_demo_with_progress_and_figures(
    tmp_path: Path, demo_checkpoint: Path
) -> None:
    async with running(tmp_path) as (service, bus):
        events = bus.subscribe(["model"])
        status = await service.load(demo_paths(demo_checkpoint), model="demo", quality="bf16")
        assert (status["state"], status["model"], status["quality"]) == ("ready", "demo", "bf16")
        assert status["error"] is None
        assert status["load_s"] > 0
        assert status["warmup_s"] > 0
        assert status["memory_bytes"] > 50_000_000
        assert status["step_ms"]["p50"] <= status["step_ms"]["p99"]
        os.kill(status["pid"], 0)
        told = await seen(events, is_state("ready"))
        stages = [e["status"]["progress"]["stage"] for e in told if e["event"] == "progress"]
        assert list(dict.fromkeys(stages)) == ["reading", "warming"]
        reading = [e["status"]["progress"] for e in told if e["event"] == "progress"]
        last = [p for p in reading if p["stage"] == "reading"][-1]
        assert last["bytes_done"] == last["bytes_total"] > 90_000_000
        assert last["layers_done"] == last["layers_total"] > 20
        assert reading[0]["layers_done"] < last["layers_done"]
        assert service.loaded is not None
        assert (service.loaded.codebooks_user, service.loaded.codebooks_model) == (8, 8)
        assert service.loaded.delay_frames == parrot.DELAY_FRAMES
    assert service.status()["state"] == "unloaded"
    with pytest.raises(ProcessLookupError):
        os.kill(status["pid"], 0)


@pytest.mark.asyncio
async def test_deaths_in_a_row_are_capped(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path, model_restart_max=1) as (service, bus):
        first = await service.load(paths, model="small", quality="bf16")
        events = bus.subscribe(["model"])
        os.kill(first["pid"], signal.SIGKILL)
        second = (await seen(events, is_state("ready")))[-1]["status"]
        os.kill(second["pid"], signal.SIGKILL)
        failed = (await seen(events, is_state("failed")))[-1]["status"]
        assert failed["error"]["kind"] == ModelCrashLoop.kind
        assert failed["pid"] is None
        after = await service.load(paths, model="small", quality="bf16")
        assert after["state"] == "ready", "an explicit load starts anew"


@pytest.mark.asyncio
async def test_loads_are_joined_and_a_cancelled_wait_cancels_no_load(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, bus):
        events = bus.subscribe(["model"])
        waiting = asyncio.create_task(service.load(paths, model="small", quality="bf16"))
        await seen(events, is_state("loading"))
        waiting.cancel()
        joined = await service.load(paths, model="small", quality="auto")
        assert (joined["state"], joined["restarts"]) == ("ready", 0)
        assert (await service.load(paths, model="small", quality="bf16"))["pid"] == joined["pid"]
        assert service.status()["state"] == "ready"


@pytest.mark.asyncio
async def test_switching_quality_and_unloading_end_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    bf16, q4 = small_paths(folder), small_paths(folder, "q4")
    async with running(tmp_path) as (service, _bus):
        first = await service.load(bf16, model="small", quality="bf16")
        second = await service.load(q4, model="small", quality="q4")
        assert second["quality"] == "q4"
        assert second["pid"] != first["pid"]
        gone = await service.unload()
        assert (gone["state"], gone["model"], gone["pid"]) == ("unloaded", None, None)
        for status in (first, second):
            with pytest.raises(ProcessLookupError):
                os.kill(status["pid"], 0)
        with pytest.raises(ModelNotLoaded):
            await service.bench(5)


@pytest.mark.asyncio
async def test_unloading_gives_up_a_load_on_its_way(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, bus):
        events = bus.subscribe(["model"])
        waiting = asyncio.create_task(service.load(paths, model="small", quality="bf16"))
        await seen(events, is_state("loading"))
        assert (await service.unload())["state"] == "unloaded"
        with pytest.raises(ModelNotLoaded, match="unloaded while"):
            await waiting


@pytest.mark.asyncio
async def test_a_load_joined_while_it_is_unloaded_waits_and_is_told(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, _bus):
        await service.load(paths, model="small", quality="bf16")
        outcomes: list[Any] = await asyncio.gather(
            service.load(paths, model="small", quality="bf16"),
            service.unload(),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], ModelNotLoaded)
        assert service.status()["state"] == "unloaded"


@pytest.mark.asyncio
async def test_a_bad_checkpoint_fails_by_kind_and_the_next_load_works(tmp_path: Path) -> None:
    good, bad = small_paths(tmp_path / "good"), small_paths(tmp_path / "bad")
    bad.weights.write_bytes(bad.weights.read_bytes()[:-10])
    async with running(tmp_path) as (service, _bus):
        with pytest.raises(BadCheckpoint, match="cut short"):
            await service.load(bad, model="bad", quality="bf16")
        status = service.status()
        assert (status["state"], status["pid"]) == ("failed", None)
        assert status["error"]["kind"] == "model.bad_checkpoint"
        assert status["error"]["hint"]
        assert (await service.load(good, model="good", quality="bf16"))["error"] is None


@pytest.mark.asyncio
async def test_what_was_quantised_is_kept_and_read_the_next_time(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small", "q4")
    paths = msgspec.structs.replace(paths, store=tmp_path / "kept")
    async with running(tmp_path) as (service, bus):
        events = bus.subscribe(["model"])
        await service.load(paths, model="small", quality="q4")
        kept = (await seen(events, lambda data: data["event"] == "quantised"))[-1]
        assert (kept["error"], kept["size_bytes"]) == (None, Path(kept["path"]).stat().st_size)
        await service.unload()
        events = bus.subscribe(["model"])
        await service.load(paths, model="small", quality="q4")
        told = await seen(events, is_state("ready"))
        stages = [e["status"]["progress"]["stage"] for e in told if e["event"] == "progress"]
        assert "reading" in stages
        assert "quantising" not in stages


@pytest.mark.asyncio
async def test_an_unload_at_once_waits_for_the_copy(tmp_path: Path) -> None:
    """Of 8 MB, which are not on the disk yet when the model is ready."""
    paths = small_paths(tmp_path / "small", "q8", text_card=16_000)
    paths = msgspec.structs.replace(paths, store=tmp_path / "kept")
    async with running(tmp_path) as (service, _bus):
        await service.load(paths, model="small", quality="q8")
        await service.unload()
    (copy,) = (tmp_path / "kept").iterdir()
    assert copy.suffix == ".safetensors"
    assert copy.stat().st_size > 8_000_000


@pytest.mark.asyncio
async def test_where_no_copy_can_be_kept_the_model_is_loaded_and_it_is_said(
    tmp_path: Path,
) -> None:
    (tmp_path / "kept").write_text("in the way")
    paths = small_paths(tmp_path / "small", "q8")
    paths = msgspec.structs.replace(paths, store=tmp_path / "kept")
    async with running(tmp_path) as (service, bus):
        events = bus.subscribe(["model"])
        status = await service.load(paths, model="small", quality="q8")
        assert (status["state"], status["error"]) == ("ready", None)
        kept = (await seen(events, lambda data: data["event"] == "quantised"))[-1]
        assert kept["error"] == "File exists"


@pytest.mark.asyncio
async def test_the_status_says_why_this_quality(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, _bus):
        service.explain("small", "q4", "another one")
        assert service.status()["why"] is None
        assert (await service.load(paths, model="small", quality="bf16"))["why"] is None
        service.explain("small", "bf16", "it was asked for")
        assert service.status()["why"] == "it was asked for"
