"""The daemon's side of sound with real workers: the spare, talks, deaths, and a clean end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from moshid import settings as settings_module
from moshid.audio import liveness
from moshid.audio.service import AudioService
from moshid.errors import AudioWorkerDied, BadAudioFile, BadCheckpoint, NoTalk, TalkBusy
from moshid.events import Bus
from tests.fakes.audio_rig import DEMO_CODEC, make_speech
from tests.fakes.deaths import kill_unnoticed
from tests.fakes.parrot_peer import DELAY_FRAMES, ParrotPeer

TIMEOUT_S = 60.0


class Listener:
    """What a talk is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._changed = asyncio.Event()

    def __call__(self, name: str, data: dict[str, Any]) -> None:
        self.events.append((name, data))
        self._changed.set()

    async def change(self) -> None:
        """Until something more is told."""
        self._changed.clear()
        await self._changed.wait()

    async def wait_for(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                self._changed.clear()
                for event, data in self.events:
                    if event == name:
                        return data
                await self._changed.wait()


@asynccontextmanager
async def audio_service(
    home: Path, *, look_s: float = liveness.LOOK_S, **given: Any
) -> AsyncIterator[AudioService]:
    settings = settings_module.load({"home": home} | given, {"HOME": str(home)})
    service = AudioService(settings, Bus(), look_s=look_s)
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    try:
        yield service
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def talk_of(session: str, home: Path, **changes: Any) -> dict[str, Any]:
    files = {"in_file": str(home / "in.wav"), "out_file": str(home / "out.wav")}
    return {"session": session, "epoch": 1, "delay_frames": DELAY_FRAMES} | files | changes


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def spare_pid(service: AudioService, *, other_than: int = 0) -> int:
    """The spare's process, once there is one."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            for worker in service.workers():
                if worker["state"] == "spare" and worker["pid"] != other_than:
                    return int(worker["pid"])
            await asyncio.sleep(0.01)  # the service tells nobody when its spare is ready


@pytest.mark.asyncio
async def test_one_talk_after_the_other_each_on_a_worker_of_its_own(tmp_path: Path) -> None:
    make_speech(tmp_path / "in.wav")
    async with audio_service(tmp_path) as service:
        service.set_codec(DEMO_CODEC)
        first = await spare_pid(service)
        for session in ("one", "two"):
            listener = Listener()
            with ParrotPeer() as peer:
                params = talk_of(session, tmp_path, fast=True)
                answer = await service.start_talk(params, DEMO_CODEC, peer.theirs, listener)
                peer.theirs.close()
                assert answer["sample_rate"] == 24_000
                ended = await listener.wait_for("ended")
                stats = await service.stop_talk(session)
            assert ended["reason"] == "input_end"
            assert stats == ended["stats"]
            assert stats["frames"] > 40
            assert await service.stop_talk(session) == {}
        assert await spare_pid(service, other_than=first) != first
        pids = [worker["pid"] for worker in service.workers()]
    assert not any(is_running(pid) for pid in [*pids, first])


@pytest.mark.asyncio
async def test_a_second_talk_is_refused_and_a_failed_start_leaves_room(tmp_path: Path) -> None:
    make_speech(tmp_path / "in.wav")
    echo = {"engine": "echo"}
    async with audio_service(tmp_path) as service:
        missing = talk_of("a", tmp_path, in_file=str(tmp_path / "none.wav"), **echo)
        with pytest.raises(BadAudioFile):
            await service.start_talk(missing, None, None, Listener())
        await service.start_talk(talk_of("b", tmp_path, **echo), None, None, Listener())
        with pytest.raises(TalkBusy):
            await service.start_talk(talk_of("c", tmp_path, **echo), None, None, Listener())
        with pytest.raises(NoTalk), ParrotPeer() as peer:
            await service.rejoin("c", 2, peer.theirs)
        assert (await service.stop_talk("b"))["session"] == "b"


@pytest.mark.asyncio
async def test_a_bad_codec_says_so_and_an_echo_still_runs(tmp_path: Path) -> None:
    make_speech(tmp_path / "in.wav")
    bad = DEMO_CODEC | {"weights": str(tmp_path / "none.safetensors")}
    async with audio_service(tmp_path) as service:
        with pytest.raises(BadCheckpoint), ParrotPeer() as peer:
            await service.start_talk(talk_of("a", tmp_path), bad, peer.theirs, Listener())
        params = talk_of("b", tmp_path, engine="echo", fast=True)
        listener = Listener()
        await service.start_talk(params, None, None, listener)
        assert (await listener.wait_for("ended"))["reason"] == "input_end"


@pytest.mark.asyncio
async def test_a_killed_worker_is_told_to_the_talk_and_the_next_talk_works(
    tmp_path: Path,
) -> None:
    make_speech(tmp_path / "in.wav")
    async with audio_service(tmp_path) as service:
        listener = Listener()
        params = talk_of("a", tmp_path, engine="echo")
        await service.start_talk(params, None, None, listener)
        await listener.wait_for("level")
        pid = next(w["pid"] for w in service.workers() if w["state"] == "talking")
        os.kill(pid, signal.SIGKILL)
        await listener.wait_for("died")
        assert await service.stop_talk("a") == {}
        again = Listener()
        await service.start_talk(talk_of("b", tmp_path, engine="echo"), None, None, again)
        await again.wait_for("level")
        await service.stop_talk("b")


@pytest.mark.asyncio
async def test_a_worker_that_stands_still_for_long_is_told_to_the_talk(tmp_path: Path) -> None:
    make_speech(tmp_path / "in.wav")
    async with audio_service(tmp_path, look_s=0.3) as service:
        listener = Listener()
        await service.start_talk(talk_of("a", tmp_path, engine="echo"), None, None, listener)
        await listener.wait_for("level")
        (pid,) = [w["pid"] for w in service.workers() if w["state"] == "talking"]
        os.kill(pid, signal.SIGSTOP)
        await listener.wait_for("died")
    assert not is_running(pid)


@pytest.mark.parametrize(
    "leaves", [pytest.param(True, id="leaves"), pytest.param(False, id="left")]
)
@pytest.mark.asyncio
async def test_a_spare_that_leaves_as_a_talk_between_files_begins_is_replaced(
    tmp_path: Path, leaves: bool
) -> None:
    """As one does whose devices have changed this very moment."""
    make_speech(tmp_path / "in.wav")
    listener = Listener()
    async with audio_service(tmp_path) as service:
        pid = await spare_pid(service)
        if leaves:
            os.kill(pid, signal.SIGKILL)  # which the service has not noticed yet
        else:
            kill_unnoticed(pid)
        params = talk_of("a", tmp_path, engine="echo", fast=True)
        await service.start_talk(params, None, None, listener)
        ended = await listener.wait_for("ended")
        await service.stop_talk("a")
    assert ended["reason"] == "input_end"


@pytest.mark.asyncio
async def test_a_killed_spare_is_replaced(tmp_path: Path) -> None:
    async with audio_service(tmp_path) as service:
        first = await spare_pid(service)
        os.kill(first, signal.SIGKILL)
        assert await spare_pid(service, other_than=first) != first


@pytest.mark.asyncio
async def test_a_worker_that_never_starts_is_reported_not_awaited_for_ever(
    tmp_path: Path,
) -> None:
    settings = settings_module.load(
        {"home": tmp_path, "model_restart_backoff_s": 0.01}, {"HOME": str(tmp_path)}
    )
    service = AudioService(settings, Bus(), module="moshid.audio.no_such_module")
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    with pytest.raises(AudioWorkerDied, match="did not start"):
        await service.start_talk(talk_of("a", tmp_path), None, None, Listener())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
async def test_devices_come_from_a_fresh_worker(tmp_path: Path) -> None:
    async with audio_service(tmp_path) as service:
        devices = await service.devices()
    assert set(devices) == {"input", "output"}


@pytest.mark.asyncio
async def test_however_many_ask_for_devices_one_process_answers_at_a_time(tmp_path: Path) -> None:
    async with audio_service(tmp_path) as service:
        await spare_pid(service)
        asking = [asyncio.create_task(service.devices()) for _ in range(4)]
        most = 0
        while not all(task.done() for task in asking):
            await asyncio.wait(asking, timeout=0.02)
            children = psutil.Process().children()
            most = max(most, len(children))
        for task in asking:
            assert set(task.result()) == {"input", "output"}
    assert most <= 3, "the spare, the one that answers, and the one before on its way out"


@pytest.mark.asyncio
@pytest.mark.timeout(15)  # an ordinary call to the worker is waited for longer than that
async def test_a_sound_that_hangs_is_stopped_in_bounded_time(tmp_path: Path) -> None:
    make_speech(tmp_path / "in.wav")
    async with audio_service(tmp_path, stop_timeout_s=0.5) as service:
        await service.start_talk(talk_of("a", tmp_path, engine="echo"), None, None, Listener())
        (pid,) = [w["pid"] for w in service.workers() if w["state"] == "talking"]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(AudioWorkerDied, match="did not answer"):
            await service.stop_talk("a")
    assert not is_running(pid)


def test_the_daemon_side_loads_no_sound_library() -> None:
    heavy = ["mlx", "moshi_mlx", "numpy", "sounddevice", "soundfile", "soxr", "rustymimi"]
    program = f"import sys, moshid.audio.service; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert answer.stdout.strip() == b"[]"
