"""Echo cancelling on real PortAudio: what the speaker plays comes back at the microphone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from moshid.demo.probe import JackProbe, Samples
from moshid.demo.sound import JackServer
from tests.fakes import rooms
from tests.fakes.audio_rig import audio_worker
from tests.fakes.jack_rig import jack_server

RATE = 24_000
PERIOD = 240
AIR_MS = 50
DEVICE = {"input": "system", "output": "JACK Audio"}
SPEECH_S = 2.5
TAIL_S = 1.5


class RoomProbe(JackProbe):
    """What it hears it says again ``AIR_MS`` later, as loud, over what it has to say."""

    def _process(self, frames: int) -> None:
        super()._process(frames)
        air = AIR_MS * RATE // 1000
        heard = self._recorded[max(0, self._at - frames - air) : max(0, self._at - air)]
        if len(heard) == frames:
            self._mouth.get_array()[:] += heard


async def converse(server: JackServer, folder: Path, **wish: Any) -> tuple[Samples, Any]:
    """The echo engine plays a sentence back; what the speaker plays, and the last numbers."""
    folder.mkdir()
    async with audio_worker(folder) as rig:
        await rig.start(None, **DEVICE, **wish)
        with RoomProbe(server) as probe:
            await asyncio.to_thread(probe.attach)
            probe.play(rooms.near_voice(SPEECH_S), tail_s=TAIL_S)
            heard = await asyncio.to_thread(probe.wait, 60.0)
        return heard, await rig.worker.call("stop")


@pytest.mark.asyncio
async def test_the_speaker_does_not_feed_itself_through_the_microphone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = slice(round(-0.7 * RATE), None)
    with jack_server(tmp_path, monkeypatch, rate=RATE, period=PERIOD) as server:
        howling, stats = await converse(server, tmp_path / "off", echo_cancel=False)
        assert not stats["echo_cancel"]
        quiet, stats = await converse(server, tmp_path / "on", echo_cancel="auto")
    assert stats["echo_cancel"]
    assert rooms.level_db(howling[end]) > -30
    assert rooms.level_db(quiet[: round(SPEECH_S * RATE)]) > -40
    assert rooms.level_db(quiet[end]) < -50
    # The air, and the cycle that the probe and PortAudio each take.
    assert AIR_MS - 1 <= stats["echo"]["delay_ms"] <= AIR_MS + 4e3 * PERIOD / RATE
