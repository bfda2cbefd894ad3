"""A talk with the resident model's real worker process: answers, deaths, what it forbids."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from moshid.demo import parrot
from moshid.errors import (
    InvalidParams,
    ModelNotLoaded,
    TalkBusy,
)
from moshid.ipc import FrameKind, TokenFrame
from tests.fakes.model_rig import (
    SAMPLING,
    SILENCE,
    Ears,
    Peer,
    demo_paths,
    is_state,
    random_frames,
    running,
    seen,
    small_paths,
)


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
async def test_what_the_start_of_a_talk_forbids(tmp_path: Path) -> None:
    """From the load for it on: nobody takes the model away before its first frame."""
    folder = tmp_path / "small"
    bf16, q4 = small_paths(folder), small_paths(folder, "q4")
    async with running(tmp_path) as (service, _bus):
        coming = asyncio.create_task(
            service.load(bf16, model="small", quality="bf16", session="t1")
        )
        await asyncio.sleep(0)
        for refused in (
            service.load(q4, model="small", quality="q4"),
            service.load(q4, model="small", quality="q4", session="t2"),
            service.unload(),
        ):
            with pytest.raises(TalkBusy, match="t1"):
                await refused
        await coming
        with pytest.raises(TalkBusy, match="t1"):
            await service.unload()
        await service.load(q4, model="small", quality="q4", session="t1")
        await service.end_talk("t1")
        assert (await service.unload())["state"] == "unloaded"


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
