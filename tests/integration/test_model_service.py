"""The resident model with the real worker process: load, talk, die, come back, refuse."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from moshid.demo import parrot
from moshid.errors import (
    BadCheckpoint,
    InvalidParams,
    ModelCrashLoop,
    ModelNotLoaded,
    MoshidError,
    TalkBusy,
)
from moshid.events import Bus, Subscription
from moshid.ipc import FrameDecoder, FrameKind, TokenFrame
from moshid.model.files import CheckpointPaths, locate
from moshid.model.service import ModelService
from moshid.settings import Settings
from tests.fakes import small_models

SAMPLING = {"seed": 1}
SILENCE = parrot.SILENCE_CODES


@asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[ModelService, Bus]]:
    """A service in a task group, as in the daemon; ended in order."""
    bus = Bus()
    home = tmp_path / "home"
    values = {"model_restart_backoff_s": 0.01} | settings
    service = ModelService(Settings(home=home, socket=home / "s", **values), bus)
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    try:
        yield service, bus
    finally:
        task.cancel()
        await asyncio.wait({task})


def demo_paths(folder: Path, quality: str = "bf16") -> CheckpointPaths:
    return locate("moshid/demo", quality, {p.name: p for p in folder.iterdir()})


def small_paths(folder: Path, quality: str = "bf16") -> CheckpointPaths:
    """A random model without a codec, which the model part does not need."""
    small_models.write_checkpoint(folder)
    (folder / "codec.safetensors").write_bytes(b"")
    return locate("some/model", quality, {p.name: p for p in folder.iterdir()})


async def seen(subscription: Subscription, wanted: Callable[[dict[str, Any]], bool]) -> list[Any]:
    """The model's events until (and with) the first that is ``wanted``."""
    events = []
    while True:
        data = (await subscription.take()).event.data
        events.append(data)
        if wanted(data):
            return events


def is_state(state: str) -> Callable[[dict[str, Any]], bool]:
    return lambda data: data["event"] == "state" and data["status"]["state"] == state


OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_peers() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


class Peer:
    """The audio worker's end: sends USER frames, receives the answers."""

    def __init__(self, epoch: int = 1) -> None:
        self.ours, self.theirs = socket.socketpair()
        OPEN.append(self.ours)
        self.ours.setblocking(False)
        self.epoch = epoch
        self._decoder = FrameDecoder()
        self._frames: list[TokenFrame] = []

    async def send(self, frame: TokenFrame) -> None:
        await asyncio.get_running_loop().sock_sendall(self.ours, frame.pack())

    async def receive(self) -> TokenFrame | None:
        """The next frame, None at end of file."""
        while not self._frames:
            data = await asyncio.get_running_loop().sock_recv(self.ours, 4096)
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def ask(self, index: int, tokens: tuple[int, ...]) -> TokenFrame:
        await self.send(
            TokenFrame(FrameKind.USER, self.epoch, index, capture_ns=1000 + index, tokens=tokens)
        )
        answer = await self.receive()
        assert answer is not None
        assert (answer.kind, answer.epoch, answer.frame) == (FrameKind.MODEL, self.epoch, index)
        assert answer.capture_ns == 1000 + index
        return answer


class Ears:
    """What a talk heard of its model."""

    def __init__(self) -> None:
        self.text: list[dict[str, Any]] = []
        self.gone: asyncio.Queue[MoshidError] = asyncio.Queue()
        self.restarted = asyncio.Event()
        self.failed: asyncio.Queue[MoshidError] = asyncio.Queue()

    def hooks(self) -> dict[str, Any]:
        return {
            "on_text": self.text.append,
            "on_gone": self.gone.put_nowait,
            "on_restarted": self.restarted.set,
            "on_failed": self.failed.put_nowait,
        }


def random_frames(count: int) -> list[tuple[int, ...]]:
    rng = random.Random(4)
    return [tuple(rng.randrange(2048) for _ in range(8)) for _ in range(count)]


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
        assert service.loaded is not None
        assert (service.loaded.codebooks_user, service.loaded.codebooks_model) == (8, 8)
        assert service.loaded.delay_frames == parrot.DELAY_FRAMES
    assert service.status()["state"] == "unloaded"
    with pytest.raises(ProcessLookupError):
        os.kill(status["pid"], 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("quality", ["bf16", "q8", "q4"])
async def test_a_talk_returns_every_token_two_frames_later(
    tmp_path: Path, demo_checkpoint: Path, quality: str
) -> None:
    frames = random_frames(20)
    syllable, said = next(iter(parrot.syllable_tokens().items()))
    frames[3] = (syllable, *frames[3][1:])
    async with running(tmp_path) as (service, _bus):
        await service.load(demo_paths(demo_checkpoint, quality), model="demo", quality=quality)
        peer, ears = Peer(), Ears()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **ears.hooks())
        assert service.status()["state"] == "busy"
        answers = [await peer.ask(i, tokens) for i, tokens in enumerate(frames)]
        assert answers[0].tokens == ()
        assert answers[1].tokens == SILENCE
        assert [a.tokens for a in answers[2:]] == frames[:-2]
        await peer.send(TokenFrame(FrameKind.END, 1, len(frames)))
        end = await peer.receive()
        assert end is not None
        assert end.kind is FrameKind.END
        assert await peer.receive() is None, "the worker closes its end"
        await service.end_talk("t1")
        assert service.status()["state"] == "ready"
        assert answers[4].text == said, "it answers a step after it is heard"
        assert {"session": "t1", "frame": 4, "token": said, "piece": ears.text[0]["piece"]} in (
            ears.text
        )
        assert all(t["piece"].strip().isalpha() for t in ears.text)


@pytest.mark.asyncio
async def test_old_epochs_are_dropped_and_a_new_talk_starts_fresh(
    tmp_path: Path, demo_checkpoint: Path
) -> None:
    frames = random_frames(4)
    async with running(tmp_path) as (service, _bus):
        await service.load(demo_paths(demo_checkpoint), model="demo", quality="bf16")
        for number in (1, 2):
            peer = Peer(epoch=number)
            await service.begin_talk(f"t{number}", number, peer.theirs, SAMPLING, **Ears().hooks())
            await peer.send(TokenFrame(FrameKind.USER, number + 7, 0, tokens=frames[0]))
            answers = [await peer.ask(i, tokens) for i, tokens in enumerate(frames)]
            assert [a.tokens for a in answers] == [(), SILENCE, *frames[:2]]
            await service.end_talk(f"t{number}")
            end = await peer.receive()
            assert end is not None
            assert end.kind is FrameKind.END


@pytest.mark.asyncio
async def test_a_killed_worker_comes_back_and_the_talk_goes_on(
    tmp_path: Path, demo_checkpoint: Path
) -> None:
    frames = random_frames(4)
    async with running(tmp_path) as (service, bus):
        status = await service.load(demo_paths(demo_checkpoint), model="demo", quality="bf16")
        peer, ears = Peer(), Ears()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **ears.hooks())
        await peer.ask(0, frames[0])
        events = bus.subscribe(["model"])
        os.kill(status["pid"], signal.SIGKILL)
        assert await peer.receive() is None
        told = await seen(events, is_state("ready"))
        names = [e["event"] for e in told if e["event"] != "progress"]
        assert names.index("worker_died") < names.index("restarting") < len(names) - 1
        died = next(e for e in told if e["event"] == "worker_died")
        assert died["pid"] == status["pid"]
        assert died["status"]["state"] == "loading"
        assert died["status"]["error"]["kind"] == "model.worker_died"
        assert (await ears.gone.get()).kind == "model.worker_died"
        await ears.restarted.wait()
        again = service.status()
        assert (again["state"], again["restarts"], again["error"]) == ("ready", 1, None)
        assert again["pid"] != status["pid"]
        with pytest.raises(TalkBusy):
            await service.unload()
        second = Peer(epoch=2)
        await service.begin_talk("t1", 2, second.theirs, SAMPLING, **ears.hooks())
        answers = [await second.ask(i, tokens) for i, tokens in enumerate(frames)]
        assert answers[3].tokens == frames[1]
        await service.end_talk("t1")
        assert service.status()["state"] == "ready"


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
        assert service.is_loaded("small", "auto")


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
async def test_what_a_talk_forbids(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    bf16, q4 = small_paths(folder), small_paths(folder, "q4")
    async with running(tmp_path) as (service, _bus):
        peer = Peer()
        with pytest.raises(ModelNotLoaded):
            await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        assert peer.theirs.fileno() == -1, "the socket is given away in any case"
        await service.load(bf16, model="small", quality="bf16")
        peer = Peer()
        with pytest.raises(InvalidParams):
            await service.begin_talk("t1", 1, peer.theirs, {"seed": -1}, **Ears().hooks())
        peer = Peer()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **Ears().hooks())
        for refused in (
            service.load(q4, model="small", quality="q4"),
            service.unload(),
            service.bench(5),
            service.begin_talk("t2", 2, Peer().theirs, SAMPLING, **Ears().hooks()),
        ):
            with pytest.raises(TalkBusy, match="t1"):
                await refused
        await service.load(bf16, model="small", quality="bf16")
        await service.end_talk("t1")
        bench = await service.bench(20)
        assert bench["steps"] == 20
        assert bench["step_ms"]["min"] <= bench["step_ms"]["p50"] <= bench["step_ms"]["max"]
        assert bench["realtime"] is (bench["step_ms"]["p99"] <= 80.0)
        with pytest.raises(InvalidParams):
            await service.bench(0)


@pytest.mark.asyncio
@pytest.mark.parametrize("tokens", [(1, 2, 3), (1, 2, 3, 65)], ids=["too_few", "out_of_range"])
async def test_frames_that_make_no_sense_end_the_talk(
    tmp_path: Path, tokens: tuple[int, ...]
) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, _bus):
        await service.load(paths, model="small", quality="bf16")
        peer, ears = Peer(), Ears()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **ears.hooks())
        await peer.send(TokenFrame(FrameKind.USER, 1, 0, tokens=tokens))
        error = await ears.failed.get()
        assert error.facts == {"reason": "bad_frame"}
        assert service.status()["state"] == "ready", "the worker survives"


@pytest.mark.asyncio
async def test_the_audio_side_going_away_frees_the_model(tmp_path: Path) -> None:
    paths = small_paths(tmp_path / "small")
    async with running(tmp_path) as (service, bus):
        await service.load(paths, model="small", quality="bf16")
        peer, ears = Peer(), Ears()
        await service.begin_talk("t1", 1, peer.theirs, SAMPLING, **ears.hooks())
        events = bus.subscribe(["model"])
        peer.ours.close()
        await seen(events, is_state("ready"))
        assert ears.failed.empty()
        await service.end_talk("t1")
