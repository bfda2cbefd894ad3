"""The audio worker on real PortAudio, ALSA's plug-in and a private PulseAudio, as on a desktop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import soundfile

from moshid.audio.ring import Samples
from moshid.demo.lags import envelope_lag
from tests.fakes.audio_rig import audio_worker, make_speech
from tests.fakes.parrot_peer import ParrotPeer
from tests.fakes.pulse_rig import RATE, pulse_server

CORRELATION_MIN = 0.6
ATTEMPTS = 3
"""Underruns of ALSA on a busy machine tear holes into the sound; nothing else is forgiven."""


@pytest.mark.asyncio
async def test_speech_into_the_default_microphone_comes_out_of_the_default_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = soundfile.read(make_speech(tmp_path / "speech.wav"), dtype="float32")[0]
    correlations = []
    for attempt in range(ATTEMPTS):
        correlations.append(await talk_once(tmp_path / str(attempt), monkeypatch, spoken))
        if correlations[-1] > CORRELATION_MIN:
            return
    pytest.fail(f"what was heard is not what was said: correlations {correlations}")


async def talk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoken: Samples) -> float:
    """How alike in loudness what is heard is to ``spoken``, over a server and worker of its own."""
    tmp_path.mkdir()
    with pulse_server(tmp_path / "pulse", monkeypatch) as server:
        async with audio_worker(tmp_path) as rig:
            await rig.prepare()
            with ParrotPeer() as peer:
                answer = await rig.start(peer)
                await rig.wait_for("level")
                heard = await asyncio.to_thread(server.speak_and_listen, spoken, tail_s=4.0)
                stats = await rig.worker.call("stop")
    assert answer["devices"]["input"]["hostapi"] == "ALSA"
    # Buffers vary and clocks differ, so the lag says little and the loudness is taken coarsely.
    _lag_s, correlation = envelope_lag(spoken, heard, RATE, lag_s_max=5.0, step_s=0.05)
    assert stats["frames"] > 50
    return correlation
