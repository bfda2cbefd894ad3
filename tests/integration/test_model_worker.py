"""The worker process by its own protocol, with a real small model: what tokens depend on."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from moshid.errors import InvalidParams
from moshid.settings import Settings
from moshid.supervisor import WorkerProcess
from tests.fakes.model_rig import Peer, small_paths

pytestmark = pytest.mark.asyncio

FRAMES = 12


@contextlib.asynccontextmanager
async def loaded(tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    paths = small_paths(tmp_path / "small")
    settings = Settings(home=tmp_path, socket=tmp_path / "s")
    events: list[tuple[str, Any]] = []
    worker = await WorkerProcess.start(
        "moshid.model.worker", settings, on_event=lambda event, data: events.append((event, data))
    )
    params = {
        "config": str(paths.config),
        "weights": str(paths.weights),
        "tokenizer": str(paths.tokenizer),
        "quality": "bf16",
    }
    try:
        assert (await worker.call("load", params))["last_step"]["ms"] > 0.0
        yield worker
    finally:
        await worker.stop()


async def said(worker: WorkerProcess, *, pulses: int = 0, **drawing: Any) -> list[tuple[int, ...]]:
    """A talk's answers: text and audio tokens of each frame, with pulses before each."""
    peer = Peer()
    params = {"session": "t", "epoch": 1, "seed": 7} | drawing
    with peer.theirs:
        await worker.call("talk", params, fds=[peer.theirs.fileno()])
    rng = random.Random(4)
    answers = []
    for frame in range(FRAMES):
        for _ in range(pulses):
            assert (await worker.call("pulse"))["frames"] == frame
        answer = await peer.ask(frame, tuple(rng.randrange(64) for _ in range(4)))
        answers.append((answer.text, *answer.tokens))
    await worker.call("talk_stop", {"session": "t"})
    peer.ours.close()
    return answers


async def test_a_seed_says_it_all_whatever_came_before(tmp_path: Path) -> None:
    """Neither an earlier talk, nor a benchmark, nor pulses can be heard in the next talk."""
    async with loaded(tmp_path) as worker:
        first = await said(worker)
        assert await said(worker, seed=8) != first
        await worker.call("bench", {"steps": 5})
        await worker.call("pulse")
        assert await said(worker, pulses=3) == first


async def test_what_says_how_to_draw_reaches_the_model(tmp_path: Path) -> None:
    async with loaded(tmp_path) as worker:
        greedy: dict[str, Any] = {"text_temperature": 0.0, "audio_temperature": 0.0}
        likeliest = await said(worker, **greedy)
        assert await said(worker, seed=8, **greedy) == likeliest, "no chance in it"
        one: dict[str, Any] = {"text_top_k": 1, "audio_top_k": 1}
        assert await said(worker, **one) == likeliest, "of one candidate"
        assert await said(worker) != likeliest
        with pytest.raises(InvalidParams, match="text_top_p"):
            await said(worker, text_top_p=0.0)


async def test_a_benchmark_tells_bytes_bandwidth_floor_and_each_step(tmp_path: Path) -> None:
    async with loaded(tmp_path) as worker:
        result = await worker.call("bench", {"steps": 20, "floor": True, "trace": True})
        told = result["bandwidth"]
        assert told["step_bytes"] < told["full_step_bytes"]
        assert told["step_bytes"] < told["weights_bytes"] + told["full_step_bytes"]
        p50_s = result["step_ms"]["p50"] / 1000
        assert told["reached_bps"] == pytest.approx(told["step_bytes"] / p50_s, rel=0.01)
        assert told["needed_bps"] == pytest.approx(told["full_step_bytes"] / 0.08)
        floor_ms = 1000 * told["step_bytes"] / told["machine_bps"]
        assert told["floor_ms"] == pytest.approx(floor_ms, rel=0.01, abs=0.001)
        assert told["machine_bps"] > 1e8
        share = result["budget_share"]
        assert share["p99"] == pytest.approx(result["step_ms"]["p99"] / 80, abs=0.001)
        assert result["realtime"] == (share["p99"] <= 1.0)
        trace = result["trace"]
        assert [(stage, frame) for stage, frame, _, _ in trace] == [("step", n) for n in range(20)]
        ends = [at + us for _, _, at, us in trace]
        assert all(end <= at for end, (_, _, at, _) in zip(ends, trace[1:], strict=False))
        compared = (await worker.call("bench", {"steps": 8, "compare": True}))["compare"]
        assert compared["same_tokens"]
        assert compared["waits"]["ours"] == 1
        assert compared["ratio"] > 0.0
        with pytest.raises(InvalidParams, match="at least 6 steps"):
            await worker.call("bench", {"steps": 5, "compare": True})
        quick = await worker.call("bench", {"steps": 1})
        assert quick["trace"] is quick["bandwidth"]["floor_ms"] is None, "only what is asked for"
