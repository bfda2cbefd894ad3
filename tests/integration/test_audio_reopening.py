"""Devices that go and come, for real: sound servers are killed in a talk and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import soundfile

from moshid.errors import AudioWorkerDied, NoDevice
from tests.fakes.audio_rig import DEMO_CODEC
from tests.fakes.jack_rig import jack_server
from tests.fakes.parrot_peer import DELAY_FRAMES, ParrotPeer
from tests.fakes.pulse_rig import pulse_server
from tests.integration.test_audio_service import Listener, audio_service, spare_pid

DEFAULTS = ("headset", "spk", "headset", "spk")
"""What was the default before the first look is not known to have changed: so it is tried again."""

JACK = {"input": "system", "output": "JACK Audio"}


def echo(session: str = "a", **params: Any) -> dict[str, Any]:
    return {"session": session, "engine": "echo"} | params


async def next_of(
    listener: Listener, name: str, after: int = 0, *, frame_min: int = 0, **wanted: Any
) -> int:
    """The index of the next event of that name with ``wanted`` in its data, from ``after`` on;
    levels from ``frame_min`` on."""
    async with asyncio.timeout(60):
        while True:
            for index, (event, data) in enumerate(listener.events[after:], after):
                late_enough = data.get("frame", frame_min) >= frame_min
                if event == name and late_enough and wanted.items() <= data.items():
                    return index
            await listener.change()


@pytest.mark.asyncio
async def test_jack_dies_in_a_talk_with_a_model_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same frame socket, the same epoch: the model never learns of it."""
    listener = Listener()
    params = {"session": "a", "epoch": 1, "delay_frames": DELAY_FRAMES} | JACK
    with jack_server(tmp_path, monkeypatch) as server, ParrotPeer() as peer:
        async with audio_service(tmp_path) as service:
            await service.start_talk(params, DEMO_CODEC, peer.theirs, listener)
            peer.theirs.close()
            await next_of(listener, "level")
            server.kill()
            lost = await next_of(listener, "device", change="lost")
            heard_before = peer.heard[-1].frame
            await asyncio.to_thread(server.start_again)
            back = await next_of(listener, "back", lost)
            level = await next_of(listener, "level", back)
            frame = listener.events[level][1]["frame"]
            await next_of(listener, "stats", level)
            stats = await service.stop_talk("a")
    assert listener.events[lost][1]["device"] == "system"
    assert not peer.ended.is_set() or peer.heard[-1].kind.name == "END"
    after = [f for f in peer.heard if f.frame >= frame]
    assert after, "the model went on hearing"
    assert {f.epoch for f in peer.heard} == {1}
    assert frame > heard_before, "frames are counted on"
    assert stats["lagged_frames"] >= frame - heard_before - 4, "what nobody heard is counted"


@pytest.mark.asyncio
async def test_pulseaudio_dies_in_a_talk_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with pulse_server(tmp_path / "pulse", monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(), None, None, listener)
            await next_of(listener, "level")
            assert server.recorders() == 2, "ours and the test's ear"
            server.kill()
            lost = await next_of(listener, "device", change="lost")
            await asyncio.to_thread(server.start_again)
            back = await next_of(listener, "device", lost, change="back")
            await next_of(listener, "level", back)
            stats = await service.stop_talk("a")
            assert stats["frames"] > 0
            await asyncio.to_thread(server.wait_for_recorders, 1)
    assert listener.events[lost][1]["direction"] in ("input", "output")


@pytest.mark.asyncio
async def test_a_server_that_stands_still_says_nothing_and_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by a signal, it breaks no connection: only the callbacks stay away."""
    listener = Listener()
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(**JACK), None, None, listener)
            await next_of(listener, "level", frame_min=20)
            server.signal(signal.SIGSTOP)
            try:
                lost = await next_of(listener, "device", change="lost")
            finally:
                server.signal(signal.SIGCONT)
            await next_of(listener, "device", lost, change="back")
            await next_of(listener, "level", lost)
            await service.stop_talk("a")
    assert "callback" in listener.events[lost][1]["message"]


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_audio_process_that_dies_or_stands_still_in_a_talk_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    listener = Listener()
    with jack_server(tmp_path, monkeypatch):
        async with audio_service(tmp_path, look_s=0.3) as service:
            await service.start_talk(echo(**JACK), None, None, listener)
            before = await next_of(listener, "level")
            (pid,) = [w["pid"] for w in service.workers() if w["state"] == "talking"]
            os.kill(pid, number)
            back = await next_of(listener, "back", before)
            level = await next_of(listener, "level", back)
            assert await service.stop_talk("a")
    assert listener.events[level][1]["frame"] > listener.events[before][1]["frame"]


@pytest.mark.asyncio
async def test_a_spare_that_dies_as_the_talk_begins_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with jack_server(tmp_path, monkeypatch):
        async with audio_service(tmp_path) as service:
            dead = await spare_pid(service)
            os.kill(dead, signal.SIGKILL)  # which the service has not noticed yet
            await service.start_talk(echo(**JACK), None, None, listener)
            await next_of(listener, "level")
            (pid,) = [w["pid"] for w in service.workers() if w["state"] == "talking"]
            assert await service.stop_talk("a")
    assert pid != dead
    assert "died" not in [name for name, _ in listener.events]


@pytest.mark.asyncio
async def test_a_spare_that_knows_devices_of_long_ago_only_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a server of which nothing cheap to look at tells; so it is after one that hung."""
    listener = Listener()
    with pulse_server(tmp_path / "pulse", monkeypatch) as server:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        server.kill()
        async with audio_service(tmp_path) as service:
            old = await spare_pid(service)
            assert service._spares.worker is not None
            assert await service._spares.worker.call("devices"), "it has looked"
            await asyncio.to_thread(server.start_again)
            await service.start_talk(echo(), None, None, listener)
            await next_of(listener, "level")
            (pid,) = [w["pid"] for w in service.workers() if w["state"] == "talking"]
            assert await service.stop_talk("a")
    assert pid != old


@pytest.mark.asyncio
async def test_the_talk_follows_the_system_s_default_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with pulse_server(tmp_path / "pulse", monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(), None, None, listener)
            await next_of(listener, "level")
            server.plug_in("headset", rate=48_000)
            for name in DEFAULTS:
                server.pactl("set-default-sink", name)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(3.0):
                        changed = await next_of(listener, "device", change="changed", device=name)
                        break
            await next_of(listener, "level", changed)
            playing = server.pactl("list", "short", "sink-inputs").splitlines()
            sinks = server.pactl("list", "short", "sinks").splitlines()
            await service.stop_talk("a")
    assert listener.events[changed][1]["direction"] == "output"
    (sink,) = [line.split("\t")[0] for line in sinks if line.split("\t")[1] == name]
    assert any(line.split("\t")[1] == sink for line in playing), "it is heard there"


@pytest.mark.asyncio
async def test_a_microphone_of_zeros_is_warned_of_and_the_talk_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with jack_server(tmp_path, monkeypatch):
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(**JACK), None, None, listener)
            warning = await next_of(listener, "warning")
            level = await next_of(listener, "level", warning)
            await next_of(listener, "stats", level)
            stats = await service.stop_talk("a")
    data = listener.events[warning][1]
    assert data["kind"] == "audio.permission"
    assert "muted" in data["hint"]
    assert "System Settings" in data["hint"]
    assert stats["silent_input"]
    assert [name for name, _ in listener.events].count("warning") == 1


@pytest.mark.asyncio
async def test_a_stop_while_the_devices_are_away_is_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(**JACK), None, None, listener)
            await next_of(listener, "level")
            server.kill()
            await next_of(listener, "device", change="lost")
            stats = await service.stop_talk("a")
            assert stats["frames"] > 0
            assert await service.stop_talk("a") == {}
            # Refused; by the spare itself, if it has not left yet because JACK has gone.
            with pytest.raises((NoDevice, AudioWorkerDied)):
                await service.start_talk(echo("b", **JACK), None, None, Listener())


@pytest.mark.asyncio
async def test_time_that_is_over_while_the_devices_are_away_ends_the_talk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(seconds=1.0, **JACK), None, None, listener)
            await next_of(listener, "level")
            server.kill()
            ended = await next_of(listener, "ended")
            await service.stop_talk("a")
    assert listener.events[ended][1]["reason"] == "seconds"


@pytest.mark.asyncio
async def test_controls_and_recording_go_on_in_the_process_that_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    record = {"path": str(tmp_path / "r.wav")}
    with jack_server(tmp_path, monkeypatch) as server:
        async with audio_service(tmp_path) as service:
            await service.start_talk(echo(record=record, **JACK), None, None, listener)
            await service.set_controls("a", {"volume": 0.5})
            await next_of(listener, "level", frame_min=25)
            server.kill()
            await next_of(listener, "device", change="lost")
            away = await service.set_controls("a", {"muted": True})
            await asyncio.to_thread(server.start_again)
            back = await next_of(listener, "back")
            level = await next_of(listener, "level", back)
            frame = listener.events[level][1]["frame"]
            await next_of(listener, "level", frame_min=frame + 15)
            now = await service.set_controls("a", {})
            stats = await service.stop_talk("a")
    assert (away["muted"], away["volume"]) == (True, 0.5)
    assert (now["muted"], now["volume"]) == (True, 0.5)
    seconds = soundfile.info(tmp_path / "r.wav").duration
    assert seconds == pytest.approx(stats["frames"] * 0.08, abs=0.3)
    assert stats["recording"]["seconds"] == round(seconds, 2)
