"""How long a model stays, and why it goes: by real processes that are there, or gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from moshid.errors import ModelError, ModelNotLoaded
from moshid.events import Subscription
from moshid.model import pressure
from moshid.model.pressure import PATIENCE_LOOKS, Sample
from moshid.model.service import ModelService
from tests.fakes.model_rig import (
    SAMPLING,
    Ears,
    Peer,
    demo_paths,
    is_state,
    running,
    seen,
)
from tests.fakes.talk_parts import PATHS

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("toy")]

QUICK: dict[str, Any] = {"worker_module": "tests.fakes.toy_worker", "model_pulse_s": 0.0}


async def load(service: ModelService, **more: Any) -> dict[str, Any]:
    return await service.load(PATHS, model="toy", quality="bf16", **more)


async def unloaded(events: Subscription) -> dict[str, Any]:
    """The event that says that, and why, a model went."""
    event: dict[str, Any] = (await seen(events, lambda e: e["event"] == "unloaded"))[-1]
    return event


class Memory:
    """The system's word on memory: a score that the test sets; counts the looks."""

    def __init__(self, score: float = 0.0) -> None:
        self.score = score
        self.seen = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []

    def __call__(self) -> Sample:
        self.seen += 1
        for count, event in self._waiting:
            if self.seen >= count:
                event.set()
        return Sample(self.score, f"score {self.score}")

    def of(self) -> pressure.System:
        return pressure.System(self, lambda: None, look_every_s=0.01)

    async def look(self, times: int) -> None:
        """Wait until it has been asked so many times more."""
        event = asyncio.Event()
        self._waiting.append((self.seen + times, event))
        await event.wait()


async def test_unloading_gives_the_memory_back_to_the_system(
    tmp_path: Path, demo_checkpoint: Path
) -> None:
    """A real model: its process held it, and is gone; ours holds no more than it did."""
    paths = demo_paths(demo_checkpoint)
    async with running(tmp_path) as (service, bus):
        ours = psutil.Process()
        status = await service.load(paths, model="demo", quality="bf16")
        process = psutil.Process(status["pid"])
        held = process.memory_info().rss
        before = ours.memory_info().rss
        assert held > 90_000_000
        events = bus.subscribe(["model"])
        assert (await service.unload())["memory_bytes"] is None
        assert not psutil.pid_exists(status["pid"]), "what a process held is the system's again"
        assert status["pid"] not in [child.pid for child in ours.children(recursive=True)]
        assert ours.memory_info().rss - before < held / 10
        event = await unloaded(events)
        assert (event["reason"], event["model"]) == ("asked", "demo")
        assert event["status"]["state"] == "unloaded"


async def test_an_idle_model_goes_when_its_time_is_over(tmp_path: Path) -> None:
    async with running(tmp_path, **QUICK) as (service, bus):
        events = bus.subscribe(["model"])
        status = await load(service, keep_alive="200ms")
        assert status["keep_alive_s"] == 0.2
        event = await unloaded(events)
        assert (event["reason"], event["status"]["pid"]) == ("keep_alive", None)
        assert not psutil.pid_exists(status["pid"])
        with pytest.raises(ModelNotLoaded):
            await service.bench(1)
        again = await load(service)
        assert (again["keep_alive_s"], again["until"]) == (None, None), "the setting's, again"


async def test_until_is_told_in_utc_and_counts_from_the_last_use(tmp_path: Path) -> None:
    async with running(tmp_path, keep_alive="1h", **QUICK) as (service, _bus):
        first = await load(service)
        assert (first["keep_alive_s"], first["until"][-1]) == (3600.0, "Z")
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        assert service.status()["until"] is None, "it is in use"
        await service.end_talk("t1")
        assert service.status()["until"] >= first["until"]
        longer = await load(service, keep_alive=7200)
        assert longer["until"] > first["until"]
        assert longer["pid"] == first["pid"]
        assert (await load(service, keep_alive="forever"))["until"] is None


async def test_no_talk_is_cut_short_and_with_0_the_model_goes_after_it(tmp_path: Path) -> None:
    async with running(tmp_path, keep_alive="0", **QUICK) as (service, bus):
        status = await load(service)
        assert status["until"] is None, "loading is no use; it waits for the first"
        await service.bench(3)
        assert service.status()["pid"] == status["pid"], "nor is what the daemon measures"
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        assert (await peer.ask(0, (1, 2))).tokens == (1, 2)
        events = bus.subscribe(["model"])
        await service.end_talk("t1")
        assert (await unloaded(events))["reason"] == "keep_alive"
        assert not psutil.pid_exists(status["pid"])


async def test_a_talk_that_is_starting_holds_the_model(tmp_path: Path) -> None:
    """Loaded for a session, it stays until that is over, however short its time to live."""
    memory = Memory()
    async with running(tmp_path, system=memory.of(), **QUICK) as (service, bus):
        events = bus.subscribe(["model"])
        await load(service, keep_alive="1ms", session="t1")
        await memory.look(10)
        assert service.status()["state"] == "ready"
        await service.end_talk("t1")
        assert (await unloaded(events))["reason"] == "keep_alive"


async def test_a_talk_given_up_while_the_model_loads_leaves_none_with_a_time_of_0(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, keep_alive="0", **QUICK) as (service, bus):
        events = bus.subscribe(["model"])
        loading = asyncio.create_task(load(service, session="t1"))
        await seen(events, is_state("loading"))
        loading.cancel()
        await service.end_talk("t1")
        assert (await unloaded(events))["reason"] == "keep_alive"


async def test_a_load_of_what_is_there_renews_its_time(tmp_path: Path) -> None:
    """One second's grain: the first deadline is told, and the next is not the same."""
    async with running(tmp_path, keep_alive="1h", **QUICK) as (service, _bus):
        told = {(await load(service))["until"]}
        while len(told) == 1:
            told.add((await load(service, wait=False))["until"])
        assert len(told) == 2


async def test_a_load_that_is_waited_for_is_a_use_until_it_is_answered(tmp_path: Path) -> None:
    """Else what came could be gone again, by time or by memory, before its caller heard of it."""
    async with running(tmp_path, keep_alive="1h", **QUICK) as (service, bus):
        events = bus.subscribe(["model"])
        answer = await load(service)
        ready = (await seen(events, is_state("ready")))[-1]["status"]
        assert ready["until"] is None
        assert answer["until"] is not None


async def test_a_model_that_failed_has_no_time_to_live(tmp_path: Path, toy: Path) -> None:
    (toy / "faults").write_text("device 1\n")
    quick = {**QUICK, "model_restart_max": 0, "keep_alive": "1h"}
    async with running(tmp_path, **quick) as (service, bus):
        await load(service)
        events = bus.subscribe(["model"])
        with pytest.raises(ModelError):
            await service.bench(10)
        await seen(events, is_state("failed"))
        assert service.status()["until"] is None
        assert (await load(service))["until"] is not None


async def test_short_memory_unloads_an_idle_model_and_says_so(tmp_path: Path) -> None:
    memory = Memory(score=1.0)
    async with running(tmp_path, system=memory.of(), **QUICK) as (service, bus):
        events = bus.subscribe(["model"])
        status = await load(service)
        event = await unloaded(events)
        assert (event["reason"], event["told_by"]) == ("memory_pressure", "score 1.0")
        assert not psutil.pid_exists(status["pid"])
        assert memory.seen == PATIENCE_LOOKS, "not at the first look"
        await load(service)
        await unloaded(events)
        assert memory.seen == 3 * PATIENCE_LOOKS, "the next one is given twice as long"


async def test_short_memory_never_ends_a_talk(tmp_path: Path) -> None:
    memory = Memory(score=5.0)
    async with running(tmp_path, system=memory.of(), **QUICK) as (service, bus):
        events = bus.subscribe(["model"])
        await load(service, session="t1")
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        await memory.look(10)
        assert (await peer.ask(0, (1, 2))).tokens == (1, 2)
        await service.end_talk("t1")
        assert (await unloaded(events))["reason"] == "memory_pressure"


async def test_short_memory_may_be_ignored(tmp_path: Path) -> None:
    memory = Memory(score=5.0)
    quick = {**QUICK, "unload_under_pressure": False}
    async with running(tmp_path, system=memory.of(), **quick) as (service, _bus):
        await load(service)
        assert (await service.bench(50))["steps"] == 50
        assert memory.seen == 0


async def test_a_system_that_talks_nonsense_harms_nobody_and_is_asked_again(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()
    looks: list[Sample | None] = []
    sane = asyncio.Event()

    def sense() -> Sample | None:
        asked.set()
        if sane.is_set():
            looks.append(Sample(1.0, "short") if len(looks) != 1 else None)
            return looks[-1]
        raise ValueError("avg10=a lot")

    system = pressure.System(sense, lambda: None, look_every_s=0.01)
    async with running(tmp_path, system=system, **QUICK) as (service, bus):
        events = bus.subscribe(["model"])
        await load(service)
        await asked.wait()
        assert (await service.bench(5))["steps"] == 5
        sane.set()
        assert (await unloaded(events))["told_by"] == "short"
        assert len(looks) == PATIENCE_LOOKS + 1, "one that says nothing is neither calm nor the end"


async def test_a_system_that_does_not_tell_at_first_is_not_asked_again(tmp_path: Path) -> None:
    looks: list[None] = []
    system = pressure.System(lambda: looks.append(None), lambda: None, look_every_s=0.0)
    async with running(tmp_path, system=system, **QUICK) as (service, _bus):
        await load(service)
        assert (await service.bench(50))["steps"] == 50
        assert len(looks) == 1


async def test_a_switch_says_what_went(tmp_path: Path) -> None:
    async with running(tmp_path, **QUICK) as (service, bus):
        first = await load(service)
        events = bus.subscribe(["model"])
        second = await service.load(PATHS, model="another", quality="bf16")
        event = await unloaded(events)
        assert (event["reason"], event["model"]) == ("switched", "toy")
        assert second["pid"] != first["pid"]
        assert not psutil.pid_exists(first["pid"])


async def test_a_warm_model_is_stepped_after_a_call_and_not_otherwise(
    tmp_path: Path, toy: Path
) -> None:
    """Looks at the memory's pressure tell the time: ten of them, no step; a call, and there are."""
    memory = Memory()
    quick = {**QUICK, "model_pulse_s": 0.001}
    async with running(tmp_path, system=memory.of(), **quick) as (service, _bus):
        status = await load(service)
        await memory.look(10)
        assert service.status()["last_step"] == status["last_step"]
        assert (toy / "journal").read_text().count("step") == 0
        service.note_call()
        while service.status()["last_step"] == status["last_step"]:
            await memory.look(1)
        assert (toy / "journal").read_text().count("step") >= 1


async def test_a_model_that_nobody_asks_for_wakes_nobody_and_is_warm_at_once_at_a_call(
    tmp_path: Path,
) -> None:
    """Who looked each so often would look in an hour."""
    memory = Memory()
    quick = {**QUICK, "model_pulse_s": 3600.0}
    async with running(tmp_path, system=memory.of(), **quick) as (service, bus):
        events = bus.subscribe(["model"])
        await load(service, wait=False)
        loaded = (await seen(events, is_state("ready")))[-1]["status"]["last_step"]
        await memory.look(3)
        assert service.status()["last_step"] == loaded
        service.note_call()
        async with asyncio.timeout(30.0):
            while service.status()["last_step"] == loaded:
                await memory.look(1)
        assert service.status()["last_step"]["at"] >= loaded["at"]


async def test_a_benchmark_is_not_disturbed_by_what_keeps_the_model_warm(tmp_path: Path) -> None:
    async with running(tmp_path, **{**QUICK, "model_pulse_s": 0.001}) as (service, _bus):
        await load(service)
        service.note_call()
        assert (await service.bench(2000))["steps"] == 2000


async def test_a_talk_is_warmed_before_its_start_is_answered(tmp_path: Path, toy: Path) -> None:
    """The microphone opens after this. Pulses before the first frame leave the talk fresh."""
    memory = Memory()
    quick = {**QUICK, "model_pulse_s": 0.001}
    async with running(tmp_path, system=memory.of(), **quick) as (service, _bus):
        await load(service)
        sampling = {
            "seed": 5,
            "text_top_p": 0.9,
            "text_repetition_penalty": 1.1,
            "audio_top_p": 0.8,
        }
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, sampling, **Ears().hooks())
        lines = (toy / "journal").read_text().splitlines()
        begin = lines[-2]
        assert lines[-1] == "step"
        assert begin.startswith("begin 5 Sampling(text_temperature=0.8, text_top_k=25,")
        for part in ("text_top_p=0.9", "audio_top_p=0.8", "text_repetition_penalty=1.1"):
            assert part in begin
        pulsed = service.status()["last_step"]
        while service.status()["last_step"] == pulsed:
            await memory.look(1)
        answer = await peer.ask(0, (1, 2))
        lines = (toy / "journal").read_text().splitlines()
        assert lines.count(begin) == 1, "beside the conversation, which is not begun again"
        assert answer.tokens == (1, 2)
        await service.end_talk("t1")
