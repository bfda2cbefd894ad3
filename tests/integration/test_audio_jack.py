"""The audio worker on real PortAudio and JACK's dummy driver, measured from the sound itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moshid.demo.lags import envelope_lag, lag_samples
from moshid.demo.probe import JackProbe, Samples
from moshid.demo.sound import JackServer, jack_library
from moshid.errors import NoDevice
from tests.fakes.audio_rig import WorkerRig, audio_worker, make_speech
from tests.fakes.jack_rig import jack_server
from tests.fakes.parrot_peer import ParrotPeer

RATE = 24_000
FRAME_MS = 80.0
TRIES = 3
"""The probe, too, has to be on time: a busy machine may cost it a cycle."""
DEVICE = {"input": "system", "output": "JACK Audio"}


@asynccontextmanager
async def rig_on_jack(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, rate: int = RATE, period: int = 240
) -> AsyncIterator[tuple[JackServer, WorkerRig]]:
    with jack_server(folder, monkeypatch, rate=rate, period=period) as server:
        async with audio_worker(folder) as rig:
            yield server, rig


async def speak(probe: JackProbe, pcm: Samples, *, tail_s: float = 1.0) -> Samples:
    """Speak and listen; the event loop goes on."""
    await asyncio.to_thread(probe.attach)
    probe.play(pcm, tail_s=tail_s)
    return await asyncio.to_thread(probe.wait, 60.0)


def noise(seconds: float, rate: int = RATE) -> Samples:
    return (0.1 * np.random.default_rng(7).standard_normal(round(seconds * rate))).astype("f4")


async def echoed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spoken: Samples
) -> tuple[Samples, int, dict[str, Any]]:
    """What comes back of it, how much later, and the loop's statistics."""
    async with rig_on_jack(folder, monkeypatch) as (server, rig):
        await rig.start(None, **DEVICE)
        with JackProbe(server) as probe:
            heard = await speak(probe, spoken)
        stats = await rig.worker.call("stop")
    lag = lag_samples(spoken, heard)
    return heard[lag : lag + len(spoken)], lag, stats


@pytest.mark.asyncio
async def test_echo_returns_every_sample_at_one_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = noise(3.0)
    for attempt in range(TRIES):
        (folder := tmp_path / str(attempt)).mkdir()
        heard, lag, stats = await echoed(folder, monkeypatch, spoken)
        exact = heard.shape == spoken.shape and np.allclose(heard, spoken, atol=1e-6)
        if exact and not stats["underruns"]:
            break
    assert exact
    # The frame, PortAudio's block, and 10 ms of room; up to two more blocks by the thread's luck.
    assert 1_920 + 240 <= lag <= 1_920 + 5 * 240
    assert stats["underruns"] == stats["overruns"] == stats["lagged_frames"] == 0
    assert stats["latency_ms"]["p50"] == pytest.approx(1e3 * lag / RATE, abs=20)


@pytest.mark.asyncio
async def test_speech_through_the_codec_and_the_parrot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = soundfile.read(make_speech(tmp_path / "speech.wav"), dtype="float32")[0]
    for attempt in range(TRIES):
        (folder := tmp_path / str(attempt)).mkdir()
        async with rig_on_jack(folder, monkeypatch) as (server, rig):
            await rig.prepare()
            with ParrotPeer() as peer:
                answer = await rig.start(peer, **DEVICE)
                with JackProbe(server) as probe:
                    heard = await speak(probe, spoken)
                stats = await rig.worker.call("stop")
            ended = await rig.wait_for("ended")
        lag_s, correlation = envelope_lag(spoken, heard, RATE)
        if not stats["underruns"]:  # this process is the parrot, and nobody serves it first
            break
    assert answer["sample_rate"] == RATE
    assert answer["devices"]["output"]["hostapi"] == "JACK Audio Connection Kit"
    assert correlation > 0.75, str(stats)
    # Three frames and the codec's 10 ms are imposed; encoding, decoding and the devices follow.
    assert 0.25 < lag_s < 0.40
    assert stats["frames"] > 50
    assert not stats["silent_input"]
    begun = {frame: at for stage, frame, at, _ in ended["trace"] if stage == "ahead"}
    captured = {frame: at for stage, frame, at, _ in ended["trace"] if stage == "queue"}
    early = [frame for frame in begun if frame in captured and begun[frame] < captured[frame]]
    assert len(early) > 10, "half a frame is encoded while the other is spoken"


@pytest.mark.asyncio
async def test_other_rates_are_resampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = 48_000
    # Below 9 kHz, so that 24 kHz can carry it all.
    tone = np.convolve(noise(2.0, rate), np.hanning(24) / 12, mode="same").astype("f4")
    for attempt in range(TRIES):
        (folder := tmp_path / str(attempt)).mkdir()
        async with rig_on_jack(folder, monkeypatch, rate=rate, period=480) as (server, rig):
            answer = await rig.start(None, **DEVICE)
            with JackProbe(server) as probe:
                heard = await speak(probe, tone)
            stats = await rig.worker.call("stop")
        if not stats["underruns"]:  # a busy machine makes one now and then
            break
    assert answer["sample_rate"] == rate
    lag = lag_samples(tone, heard)
    assert lag / rate < 0.16
    inner = slice(rate // 2, rate)
    piece = heard[lag:][inner]
    assert np.corrcoef(piece, tone[inner])[0, 1] > 0.98
    assert stats["underruns"] == 0


@pytest.mark.asyncio
async def test_a_program_that_tells_no_latency_is_heard_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PortAudio says 50 hours then, and a recording would begin with that much silence."""
    with jack_server(tmp_path, monkeypatch) as server:
        mixer = jack_library().Client("mixer", no_start_server=True, servername=server.name)
        mixer.inports.register("in")
        mixer.set_process_callback(lambda _frames: None)
        with mixer:
            async with audio_worker(tmp_path) as rig:
                record = {"path": str(tmp_path / "r" / "talk.wav")}
                devices = {"input": "system", "output": "mixer"}
                started = await rig.start(None, **devices, record=record, seconds=2)
                ended = await rig.wait_for("ended")
    assert started["devices"]["output"]["latency_ms"] < 1000
    assert ended["stats"]["latency_ms"]["p50"] < 1000
    assert soundfile.info(tmp_path / "r" / "talk.wav").duration < 5


@pytest.mark.asyncio
async def test_a_stalled_model_leaves_no_lag_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 2 s without answers the delay is what it was, within a second."""
    bursts = np.zeros(9 * RATE, dtype="f4")
    starts = [round(s * RATE) for s in (1.0, 1.5, 6.0, 6.5, 7.0)]
    speech = soundfile.read(make_speech(tmp_path / "s.wav", text="papa papa"), dtype="float32")[0]
    for start in starts:
        bursts[start : start + RATE // 4] = speech[4_000 : 4_000 + RATE // 4]
    async with rig_on_jack(tmp_path, monkeypatch) as (server, rig):
        await rig.prepare()
        with ParrotPeer() as peer, JackProbe(server) as probe:
            await rig.start(peer, **DEVICE)
            await asyncio.to_thread(probe.attach)
            probe.play(bursts, tail_s=0.5)
            first = (await rig.wait_for("level"))["frame"]
            await rig.wait_for("level", lambda level: level["frame"] > first + 35)
            peer.hold()
            stalled = (rig.of("level"))[-1]["frame"]
            await rig.wait_for("level", lambda level: level["frame"] > stalled + 25)
            peer.let_go()
            heard = await asyncio.to_thread(probe.wait, 60.0)
            stats = await rig.worker.call("stop")
    before, _ = envelope_lag(bursts[: 2 * RATE], heard[: 5 * RATE // 2], RATE, lag_s_max=1.0)
    after, correlation = envelope_lag(bursts[5 * RATE :], heard[5 * RATE :], RATE, lag_s_max=1.0)
    assert correlation > 0.6
    assert after == pytest.approx(before, abs=0.031), "three blocks"
    assert 18 <= stats["lagged_frames"] <= 26
    assert stats["late_frames"] >= 2


@pytest.mark.asyncio
async def test_a_sound_server_that_dies_fails_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig_on_jack(tmp_path, monkeypatch) as (server, rig):
        await rig.start(None, **DEVICE)
        await rig.wait_for("level")
        server.kill()
        state = await rig.wait_for("state", lambda data: data["state"] == "failed")
        assert (await rig.wait_for("ended"))["reason"] == "device"
    assert state["error"]["kind"] == "audio.device_failed"


@pytest.mark.asyncio
async def test_silence_to_the_bit_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig_on_jack(tmp_path, monkeypatch) as (_server, rig):
        await rig.start(None, **DEVICE)
        level = await rig.wait_for("level", lambda data: data["silent_input"])
        assert level["frame"] >= 12
        await rig.worker.call("stop")


@pytest.mark.asyncio
async def test_devices_are_listed_and_unknown_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig_on_jack(tmp_path, monkeypatch) as (_server, rig):
        devices = await rig.worker.call("devices")
        names = {device["name"] for device in devices["input"]}
        assert "system" in names
        index = next(d["index"] for d in devices["output"] if d["name"] == "system")
        with pytest.raises(NoDevice, match="no-such-speaker") as caught:
            await rig.start(None, input="system", output="no-such-speaker")
        assert "system" in caught.value.hint
        with pytest.raises(NoDevice, match="99"):
            await rig.start(None, input=99)
        for wrong in ({"input": 99}, {"in_file": "/in.wav", "output": "no-such-speaker"}):
            with pytest.raises(NoDevice):
                await rig.worker.call("find", wrong)
        assert await rig.worker.call("find", {"input": "system", "output": index}) == {}
        answer = await rig.start(None, input="system", output=index)
        assert answer["devices"]["output"]["index"] == index
        await rig.worker.call("stop")


@pytest.mark.asyncio
async def test_a_file_is_spoken_through_the_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = noise(1.6)
    soundfile.write(tmp_path / "in.wav", spoken, RATE, subtype="FLOAT")
    async with rig_on_jack(tmp_path, monkeypatch) as (server, rig):
        with JackProbe(server) as probe:
            probe.play(np.zeros(0, dtype="f4"), tail_s=6.0)
            attaching = asyncio.create_task(asyncio.to_thread(probe.attach, speaks=False))
            answer = await rig.start(
                None, in_file=str(tmp_path / "in.wav"), output=DEVICE["output"]
            )
            await attaching
            ended = await rig.wait_for("ended")
            heard = await asyncio.to_thread(probe.wait, 60.0)
    assert answer["devices"]["input"]["file"] == str(tmp_path / "in.wav")
    assert ended["reason"] == "input_end"
    assert ended["stats"]["frames"] == 20
    lag = lag_samples(spoken[RATE // 2 :], heard)
    assert np.corrcoef(heard[lag:][:RATE], spoken[RATE // 2 :][:RATE])[0, 1] > 0.99


@pytest.mark.asyncio
async def test_the_microphone_is_written_to_a_file_for_some_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.wav"
    async with rig_on_jack(tmp_path, monkeypatch) as (server, rig):
        await rig.start(None, input=DEVICE["input"], out_file=str(out), seconds=1.6)
        with JackProbe(server) as probe:
            await asyncio.to_thread(probe.attach, hears=False)
            spoken = noise(3.0)
            probe.play(spoken)
            ended = await rig.wait_for("ended")
    assert ended["reason"] == "seconds"
    assert ended["stats"]["frames"] == 20
    heard = soundfile.read(out, dtype="float32")[0]
    assert len(heard) == 21 * 1_920
    assert np.abs(heard[-1_920:]).max() > 0.01
