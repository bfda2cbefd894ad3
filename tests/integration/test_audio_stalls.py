"""Real sound through stalls: nothing is lost that is not told, and no delay stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moshid.demo.lags import lag_samples
from moshid.demo.probe import JackProbe, Samples
from moshid.demo.sound import JackServer, sound_environment
from tests.fakes.audio_rig import audio_worker
from tests.fakes.jack_rig import jack_server

RATE = 24_000
FRAME = 1_920
DEVICE = {"input": "system", "output": "JACK Audio"}
LONG_S = 60
ALIKE = 0.95


def noise(seconds: float) -> Samples:
    """No two frames of it are alike: each is known by its content."""
    return (0.1 * np.random.default_rng(9).standard_normal(round(seconds * RATE))).astype("f4")


def found(frame: Samples, around: Samples) -> tuple[int, float]:
    """Where a frame is in float32 ``around``, and how alike it is there."""
    size = 1 << (len(around) + len(frame)).bit_length()
    product = np.fft.rfft(around, size) * np.conj(np.fft.rfft(frame, size))
    at = int(np.argmax(np.fft.irfft(product, size)[: len(around) - len(frame) + 1]))
    there = around[at : at + len(frame)]
    norm = float(np.linalg.norm(there) * np.linalg.norm(frame))
    return at, float(np.dot(there, frame)) / norm if norm else 0.0


def missing_frames(spoken: Samples, heard: Samples, lag: int) -> int:
    """Frames of 80 ms whose middle half is nowhere in what was heard, half a second either way."""
    missing = 0
    for start in range(0, len(spoken) - FRAME + 1, FRAME):
        middle = spoken[start + FRAME // 4 : start + 3 * FRAME // 4]
        begin = max(0, start + lag - RATE // 2)
        missing += found(middle, heard[begin : begin + FRAME + RATE])[1] < ALIKE
    return missing


@pytest.mark.asyncio
@pytest.mark.timeout(180)
async def test_in_a_minute_of_real_time_every_frame_is_heard_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = noise(LONG_S)
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_worker(tmp_path) as rig:
            await rig.start(None, **DEVICE)
            with JackProbe(server) as probe:
                await asyncio.to_thread(probe.attach)
                probe.play(spoken, tail_s=1.0)
                heard = await asyncio.to_thread(probe.wait, 120.0)
                lost_by_probe = probe.xruns
            stats = await rig.worker.call("stop")
    missing = missing_frames(spoken, heard, lag_samples(spoken[: 5 * RATE], heard[: 6 * RATE]))
    told = stats["lagged_frames"] + stats["late_frames"] + stats["missed_ms"] / 80
    joints = stats["underruns"] + stats["overruns"]
    assert stats["frames"] == sum(
        stats[name]
        for name in ("answered_frames", "lagged_frames", "frames_waiting", "frames_in_flight")
    )
    # A frame at a joint has two halves, apart; what the probe itself missed was not ours.
    assert missing <= told + 2 * joints + 2 * lost_by_probe
    assert stats["frames"] >= LONG_S * 12


@pytest.mark.asyncio
async def test_a_stopped_audio_process_tells_what_it_missed_and_keeps_its_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = noise(9.0)
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_worker(tmp_path) as rig:
            await rig.start(None, **DEVICE)
            with JackProbe(server) as probe:
                await asyncio.to_thread(probe.attach)
                probe.play(spoken, tail_s=0.5)
                await asyncio.to_thread(probe.reach, 3.0)
                os.kill(rig.worker.pid, signal.SIGSTOP)
                await asyncio.to_thread(probe.reach, 5.0)
                os.kill(rig.worker.pid, signal.SIGCONT)
                heard = await asyncio.to_thread(probe.wait, 60.0)
            stats = await rig.worker.call("stop")
    before = lag_samples(spoken[: 2 * RATE], heard[: 3 * RATE])
    after = lag_samples(spoken[6 * RATE : 8 * RATE], heard[6 * RATE :])
    assert after == pytest.approx(before, abs=RATE * 0.03)
    assert stats["overruns"] >= 1
    assert stats["missed_ms"] == pytest.approx(2_000, abs=500)


def test_after_a_stall_of_the_sound_server_blocks_are_expected_when_they_come(
    tmp_path: Path,
) -> None:
    with JackServer(tmp_path) as server:
        command = [sys.executable, "-m", "tests.fakes.xrun_child", str(server.pid)]
        child = subprocess.run(
            command,
            env=sound_environment(server, os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
    facts = json.loads(child.stdout)
    assert facts["xruns"] >= 1
    # Where the old beat is gone by, they seem late by what the server stood still, for seconds.
    assert facts["after_ms"] < facts["before_ms"] + 5.0
