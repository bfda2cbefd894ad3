"""Measuring what ``auto`` loaded: once, after talks, and what is said of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from moshid.errors import TalkBusy
from moshid.events import Bus
from moshid.measuring import TRIES, Measuring
from moshid.model.auto import MEASURED_STEPS, Verdict, Verdicts
from moshid.model.catalogue import Choice
from moshid.model.machine import Machine
from moshid.model.service import ModelService
from moshid.model.states import State
from moshid.settings import Settings

pytestmark = pytest.mark.asyncio

CHOICE = Choice("demo", "org/demo", "main", "bf16", "bf16", True, 9, "bf16 fits", loaded_bytes=7)


class Model(ModelService):
    """A model that is as fast as told, or in a talk."""

    def __init__(self, folder: Path, bus: Bus, p95s_ms: list[float]) -> None:
        super().__init__(Settings(home=folder, socket=folder / "s"), bus)
        self.p95s_ms = p95s_ms
        self.asked = asyncio.Semaphore(0)
        self.why: list[str] = []
        self.explained = asyncio.Event()
        self.now = State.READY
        self.fuller = 1.0

    @property
    def state(self) -> State:
        return self.now

    def status(self) -> dict[str, Any]:
        return {"model": "demo", "quality": "bf16"}

    async def bench(self, steps: int = 100) -> dict[str, Any]:
        assert steps == MEASURED_STEPS
        self.asked.release()
        if not self.p95s_ms:
            raise TalkBusy("the model is in a talk")
        read = {"step_bytes": 100, "full_step_bytes": round(100 * self.fuller)}
        return {"step_ms": {"p95": self.p95s_ms.pop(0)}, "bandwidth": read}

    def explain(self, model: str, quality: str, why: str) -> None:
        assert (model, quality) == ("demo", "bf16")
        self.why.append(why)
        self.explained.set()


Rig = tuple[Model, Verdicts, Callable[[], None]]


@asynccontextmanager
async def rig(
    folder: Path, p95s_ms: list[float], choice: Choice | None = CHOICE
) -> AsyncIterator[Rig]:
    bus = Bus()
    model = Model(folder, bus, p95s_ms)
    verdicts = Verdicts(folder / "auto.json", lambda: Machine("p", 1, 2, "0.26.5"))
    measuring = Measuring(bus, model, lambda _model, _quality: choice, verdicts)
    started = asyncio.Event()
    task = asyncio.create_task(measuring.run(started=started))
    await started.wait()
    yield model, verdicts, lambda: bus.publish("model", {"event": "state"})
    task.cancel()
    await asyncio.wait({task})


async def test_a_model_that_keeps_up_is_measured_once(tmp_path: Path) -> None:
    async with rig(tmp_path, [31.0]) as (model, verdicts, something_happens):
        something_happens()
        await model.explained.wait()
        assert verdicts.of("demo", "bf16", 7) == Verdict(31.0, MEASURED_STEPS, 7)
        assert model.why == [
            "bf16 fits; measured here: 31 ms a step (p95, full cache), within 72 of the 80 ms of a "
            "frame"
        ]
        model.p95s_ms.append(32.0)
        for _ in range(3):
            something_happens()
            await asyncio.to_thread(verdicts.of, "demo", "bf16", 7)
        assert model.p95s_ms == [32.0], "the verdict is known by now"


async def test_what_an_earlier_daemon_measured_is_not_measured_again(tmp_path: Path) -> None:
    async with rig(tmp_path, [31.0]) as (model, verdicts, something_happens):
        verdicts.note("demo", "bf16", Verdict(99.0, MEASURED_STEPS, 7))
        something_happens()
        for _ in range(3):
            await asyncio.to_thread(verdicts.of, "demo", "bf16", 7)
        assert model.p95s_ms == [31.0]
        verdicts.note("demo", "bf16", Verdict(99.0, MEASURED_STEPS, 8))
        something_happens()
        await model.explained.wait()
        assert verdicts.of("demo", "bf16", 7) == Verdict(31.0, MEASURED_STEPS, 7)


async def test_too_slow_is_measured_again_and_the_best_counts(tmp_path: Path) -> None:
    async with rig(tmp_path, [150.0, 95.0, 120.0]) as (model, verdicts, something_happens):
        something_happens()
        await model.explained.wait()
        assert verdicts.of("demo", "bf16", 7) == Verdict(95.0, MEASURED_STEPS, 7)
        assert model.asked._value == TRIES
        assert model.why[0].endswith(
            "95 ms a step (p95, full cache), over 72 of the 80 ms of a frame; auto takes a lower "
            "quality the next time, if there is one"
        )


async def test_one_good_try_is_enough(tmp_path: Path) -> None:
    async with rig(tmp_path, [150.0, 60.0, 10.0]) as (model, verdicts, something_happens):
        something_happens()
        await model.explained.wait()
        assert verdicts.of("demo", "bf16", 7) == Verdict(60.0, MEASURED_STEPS, 7)
        assert model.p95s_ms == [10.0]


@pytest.mark.parametrize(("fuller", "keeps_up"), [(1.0, True), (1.15, True), (1.25, False)])
async def test_what_counts_is_a_step_with_a_full_cache(
    tmp_path: Path, fuller: float, keeps_up: bool
) -> None:
    async with rig(tmp_path, [60.0] * TRIES) as (model, verdicts, something_happens):
        model.fuller = fuller
        something_happens()
        await model.explained.wait()
        verdict = verdicts.of("demo", "bf16", 7)
        assert verdict is not None
        assert verdict.p95_ms == pytest.approx(60.0 * fuller)
        assert verdict.keeps_up is keeps_up


async def test_a_verdict_that_is_known_no_more_is_measured_again(tmp_path: Path) -> None:
    """In the same daemon, which may live for months."""
    async with rig(tmp_path, [31.0, 32.0]) as (model, verdicts, something_happens):
        something_happens()
        await model.explained.wait()
        model.explained.clear()
        (tmp_path / "auto.json").unlink()
        something_happens()
        await model.explained.wait()
        assert verdicts.of("demo", "bf16", 7) == Verdict(32.0, MEASURED_STEPS, 7)


async def test_a_talk_goes_first_and_it_is_measured_afterwards(tmp_path: Path) -> None:
    async with rig(tmp_path, []) as (model, verdicts, something_happens):
        something_happens()
        await model.asked.acquire()
        assert verdicts.of("demo", "bf16", 7) is None
        model.p95s_ms.append(40.0)
        something_happens()
        await model.explained.wait()
        assert verdicts.of("demo", "bf16", 7) == Verdict(40.0, MEASURED_STEPS, 7)


@pytest.mark.parametrize("state", [State.LOADING, State.BUSY, State.FAILED])
async def test_only_a_ready_model_is_measured(tmp_path: Path, state: State) -> None:
    async with rig(tmp_path, [1.0, 2.0]) as (model, verdicts, something_happens):
        model.now = state
        something_happens()
        for _ in range(3):
            await asyncio.to_thread(verdicts.of, "demo", "bf16", 7)
        assert model.p95s_ms == [1.0, 2.0]
        model.now = State.READY
        something_happens()
        await model.explained.wait()
        assert model.p95s_ms == [2.0]


async def test_what_auto_did_not_choose_is_left_alone(tmp_path: Path) -> None:
    async with rig(tmp_path, [1.0], choice=None) as (model, _verdicts, something_happens):
        something_happens()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert model.p95s_ms == [1.0]


async def test_a_home_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    async with rig(tmp_path / "gone", [31.0]) as (model, _verdicts, something_happens):
        something_happens()
        await model.explained.wait()
        assert "measured here: 31 ms" in model.why[0]
        model.p95s_ms.append(32.0)
        for _ in range(3):
            something_happens()
            await asyncio.sleep(0)
        assert model.p95s_ms == [32.0]
