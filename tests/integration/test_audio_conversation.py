"""Controls, recording and sound check on real PortAudio and JACK's dummy driver, and on files."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from moshid.audio import wav
from moshid.demo.lags import lag_samples
from moshid.demo.probe import JackProbe, Samples
from moshid.errors import InvalidParams, NoTalk, RecordingFailed
from tests.fakes.audio_rig import WorkerRig, audio_worker, make_speech
from tests.fakes.jack_rig import jack_server, patch_back

RATE = 24_000
FRAME = 1_920
DEVICE = {"input": "system", "output": "JACK Audio"}


def noise(seconds: float) -> Samples:
    return (0.1 * np.random.default_rng(7).standard_normal(round(seconds * RATE))).astype("f4")


def sides(path: Path) -> tuple[Samples, Samples]:
    pcm, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == RATE
    return pcm[:, 0], pcm[:, 1]


def longest_silence(pcm: Samples) -> tuple[int, int]:
    """Where the longest run of exact zeros begins and ends."""
    sound = np.concatenate(([-1], np.flatnonzero(pcm), [len(pcm)]))
    longest = int(np.argmax(np.diff(sound)))
    return int(sound[longest]) + 1, int(sound[longest + 1])


@pytest.mark.asyncio
async def test_mute_and_recording_in_a_real_talk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise goes in, is muted for a while, and comes back; the recording has all of it on one
    clock."""
    record = tmp_path / "new" / "r.wav"
    spoken = noise(2.8)
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_worker(tmp_path) as rig:
            answer = await rig.start(None, **DEVICE, record={"path": str(record)})
            assert answer["stats"]["recording"]["state"] == "on"
            with JackProbe(server) as probe:
                await asyncio.to_thread(probe.attach)
                probe.play(spoken, tail_s=0.5)
                begun = (await rig.wait_for("level", lambda d: d["input_dbfs"] > -25))["frame"]
                await rig.wait_for("level", lambda d: d["frame"] >= begun + 10)
                muted = await rig.worker.call("set", {"muted": True})
                await rig.wait_for("level", lambda d: d["frame"] >= begun + 20)
                await rig.worker.call("set", {"muted": False})
                heard = await asyncio.to_thread(probe.wait, 60.0)
            stats = await rig.worker.call("stop")
    assert (muted["muted"], muted["hears"]) == (True, False)
    loud = [d for d in rig.of("level") if begun + 12 <= d["frame"] < begun + 18]
    assert all(d["input_dbfs"] > -25 for d in loud), "the level is the microphone's"
    assert not any(d["user_speaking"] for d in loud)

    left, right = sides(record)
    assert stats["recording"]["seconds"] == round(len(left) / RATE, 2)
    spoken_at = lag_samples(spoken[: RATE // 2], left)
    window = left[spoken_at : spoken_at + len(spoken)]
    begin, end = longest_silence(window)
    assert 9 * FRAME <= end - begin <= 12 * FRAME, "muted is silence to the bit"
    # A busy machine may lose the probe a cycle: the two parts are laid on each by itself.
    for part in (slice(0, begin - 240), slice(end + 240, len(window))):
        said = spoken[part][: RATE // 4]
        at = lag_samples(said, left)
        same = np.isclose(left[at : at + len(said)], said, atol=2e-4)
        assert np.mean(same) > 0.9, "16 bits of what was said"
    # What was played stands where it was heard: as the probe has it, to a frame (here 20 ms).
    true_lag = lag_samples(spoken[: RATE // 2], heard)
    lag = lag_samples(spoken[: RATE // 2], right) - spoken_at
    assert lag == pytest.approx(true_lag, abs=round(0.03 * RATE))
    assert not heard[true_lag + begin + 500 : true_lag + end - 500].any()


async def checked(
    rig: WorkerRig, prepare: Callable[[], None] | None, *, seconds: float
) -> dict[str, Any]:
    """The verdict of a sound check; ``prepare`` runs when the ports are open."""
    rig.events.clear()
    await rig.start(None, **DEVICE, sound_check=True, seconds=seconds)
    if prepare is not None:
        await asyncio.to_thread(prepare)
    ended = await rig.wait_for("ended")
    assert ended["reason"] == "seconds"
    verdict: dict[str, Any] = ended["stats"]["verdict"]
    assert verdict["speaker"] == {"ok": True, "reason": "ok", "hint": None}
    return verdict


@pytest.mark.asyncio
async def test_sound_checks_in_silence_with_somebody_there_and_with_an_echo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jack_server(tmp_path, monkeypatch) as server, JackProbe(server) as probe:
        probe.play(noise(60.0))
        async with audio_worker(tmp_path) as rig:
            silent = await checked(rig, None, seconds=0.8)
            somebody = await checked(rig, probe.attach, seconds=2.6)
            echo = await checked(rig, lambda: patch_back(probe), seconds=2.6)
    assert (silent["ok"], silent["microphone"]["ok"]) == (False, False)
    assert silent["microphone"]["reason"] == "silent"
    assert "zeros" in silent["microphone"]["hint"]

    assert somebody["microphone"]["level_dbfs"] == pytest.approx(-20.0, abs=0.5)
    assert somebody["echo"]["heard"] is False
    assert somebody["latency_ms"] is not None
    assert not somebody["latency_measured"]

    assert echo["echo"]["heard"] is True
    assert echo["echo"]["below_db"] == pytest.approx(0.0, abs=0.5)
    assert "howl" in echo["echo"]["hint"]
    assert echo["latency_measured"]
    assert 5 <= echo["latency_ms"] <= 60, "a few blocks of 10 ms"


@pytest.mark.asyncio
async def test_a_killed_worker_leaves_a_recording_that_is_mended(tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "in.wav")
    record = tmp_path / "r.wav"
    files = {"in_file": str(speech), "out_file": str(tmp_path / "out.wav")}
    async with audio_worker(tmp_path) as rig:
        await rig.start(None, **files, record={"path": str(record)})
        await rig.wait_for("level", lambda d: d["frame"] >= 30)
        rig.worker._signal(signal.SIGKILL)
        assert await rig.worker.exited == -signal.SIGKILL
    assert len(sides(record)[0]) >= RATE // 2, "readable as it is: the header is not far behind"
    seconds = wav.mend(record)
    # 30 frames, less what waits for the other side.
    assert seconds >= (30 - 9) * 0.08
    left, _ = sides(record)
    assert len(left) == round(seconds * RATE)
    spoken = soundfile.read(speech, dtype="float32")[0]
    assert np.allclose(left, spoken[: len(left)], atol=1e-4)


@pytest.mark.asyncio
async def test_where_it_cannot_be_recorded_nothing_begins(tmp_path: Path) -> None:
    speech = make_speech(tmp_path / "in.wav")
    files = {"in_file": str(speech), "out_file": str(tmp_path / "out.wav"), "fast": True}
    (tmp_path / "file").write_text("")
    async with audio_worker(tmp_path) as rig:
        with pytest.raises(RecordingFailed, match="no folder to record in"):
            await rig.start(None, **files, record={"path": str(tmp_path / "file" / "r.wav")})
        with pytest.raises(InvalidParams, match="absolute"):
            await rig.start(None, **files, record={"path": "r.wav"})
        with pytest.raises(NoTalk):
            await rig.worker.call("set", {"muted": True})
        await rig.start(None, **files)
        await rig.wait_for("ended")
