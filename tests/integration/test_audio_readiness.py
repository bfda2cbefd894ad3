"""A spare audio worker has PortAudio started, and knows when that is out of date."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from moshid.audio.readiness import sound_state
from tests.fakes.audio_rig import audio_worker
from tests.fakes.jack_rig import jack_server
from tests.fakes.parrot_peer import ParrotPeer

DEVICE = {"input": "system", "output": "JACK Audio"}


@pytest.mark.asyncio
async def test_a_spare_whose_sound_server_died_ends_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_worker(tmp_path) as rig:
            assert is_there(await rig.worker.call("devices"))
            server.kill()
            async with asyncio.timeout(30):
                assert await asyncio.shield(rig.worker.exited) == 0


@pytest.mark.asyncio
async def test_a_spare_sees_a_sound_server_that_came_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jack_server(tmp_path, monkeypatch) as server:
        server.kill()
        async with audio_worker(tmp_path) as rig:
            before = await rig.worker.call("devices")
            server.start_again()
            async with asyncio.timeout(30):
                found = before
                while not is_there(found):  # the worker looks twice a second
                    found = await rig.worker.call("devices")
    assert not is_there(before)


def is_there(devices: dict[str, list[dict[str, object]]]) -> bool:
    return any(d["hostapi"] == "JACK Audio Connection Kit" for d in devices["input"])


@pytest.mark.asyncio
async def test_the_system_says_when_a_server_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "nobody")
    without = sound_state()
    with jack_server(tmp_path, monkeypatch) as server:
        there = sound_state()
        assert there == sound_state()
        server.kill()
        gone = sound_state()
    assert without != there
    assert there != gone


@pytest.mark.asyncio
async def test_a_frame_is_encoded_while_the_model_steps_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    speech = Path(__file__).parents[2] / "moshid" / "demo" / "data" / "speech.wav"
    async with audio_worker(tmp_path) as rig:
        await rig.prepare()
        with ParrotPeer(step_s=0.05) as peer:
            await rig.start(peer, in_file=str(speech), out_file=str(out), fast=True, seconds=3)
            ended = await rig.wait_for("ended")
    spans = {(stage, frame): (at, at + lasting) for stage, frame, at, lasting in ended["trace"]}
    frames = sorted(frame for stage, frame in spans if stage == "step")
    overlapping = 0
    for frame in frames[:-1]:
        begun, ended_us = spans[("encode", frame + 1)]
        overlapping += begun < spans[("step", frame)][1] and ended_us > spans[("step", frame)][0]
    assert overlapping > 0.8 * len(frames)


@pytest.mark.asyncio
async def test_a_talk_between_files_waits_for_no_sound_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = Path(__file__).parents[2] / "moshid" / "demo" / "data" / "speech.wav"
    files = {"in_file": str(speech), "out_file": str(tmp_path / "out.wav")}
    with jack_server(tmp_path, monkeypatch) as server:
        server.signal(signal.SIGSTOP)
        async with audio_worker(tmp_path) as rig:
            await rig.prepare()
            await rig.start(None, **files, fast=True, seconds=1)
            ended = await rig.wait_for("ended")
            server.signal(signal.SIGCONT)
            assert is_there(await rig.worker.call("devices"))
    assert ended["reason"] == "seconds"
