"""A real audio worker process under test, with everything it told us."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from moshid import settings as settings_module
from moshid.supervisor import WorkerProcess
from tests.fakes.parrot_peer import DELAY_FRAMES, ParrotPeer

DATA = Path(__file__).parents[2] / "moshid" / "demo" / "data"
DEMO_CODEC = {
    "kind": "mlx_mimi",
    "weights": str(DATA / "demo-codec.safetensors"),
    "config": str(DATA / "mimi_config.json"),
    "codebooks": 8,
}
EVENT_TIMEOUT_S = 60.0


class WorkerRig:
    """The worker, its events, and waiting for one of them."""

    def __init__(self) -> None:
        self.worker: WorkerProcess
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._changed = asyncio.Event()

    def on_event(self, name: str, data: dict[str, Any]) -> None:
        """What the worker notifies."""
        self.events.append((name, data))
        self._changed.set()

    def of(self, name: str) -> list[dict[str, Any]]:
        """The data of every event of that name."""
        return [data for event, data in self.events if event == name]

    async def wait_for(
        self, name: str, accept: Callable[[dict[str, Any]], bool] = lambda _data: True
    ) -> dict[str, Any]:
        """The first event of that name that ``accept`` likes, past or to come."""
        async with asyncio.timeout(EVENT_TIMEOUT_S):
            while True:
                self._changed.clear()
                for data in self.of(name):
                    if accept(data):
                        return data
                await self._changed.wait()

    async def prepare(self) -> dict[str, Any]:
        """Build the demo codec in the worker."""
        return await self.worker.call("prepare", {"codec": DEMO_CODEC})

    async def start(self, peer: ParrotPeer | None, **params: Any) -> dict[str, Any]:
        """Start a session; with a peer, on its frame socket.

        No echo is cancelled unless asked for: between a probe's mouth and ear there is no room.
        """
        asked = {"session": "s1", "epoch": 1, "echo_cancel": False} | params
        if peer is None:
            return await self.worker.call("start", {"engine": "echo"} | asked)
        asked = {"delay_frames": DELAY_FRAMES} | asked
        answer = await self.worker.call("start", asked, fds=[peer.theirs.fileno()])
        peer.theirs.close()
        return answer


@asynccontextmanager
async def audio_worker(home: Path) -> AsyncIterator[WorkerRig]:
    """A started audio worker, stopped at the end."""
    rig = WorkerRig()
    settings = settings_module.load({"home": home}, {"HOME": str(home)})
    rig.worker = await WorkerProcess.start("moshid.audio.worker", settings, on_event=rig.on_event)
    try:
        yield rig
    finally:
        await rig.worker.stop()


def make_speech(path: Path, *, rate: int = 24_000, channels: int = 1, text: str = "") -> Path:
    """A WAV that espeak-ng speaks, brought to ``rate`` and ``channels`` by sox."""
    raw = path.with_suffix(".espeak.wav")
    said = text or "The quick brown fox jumps over the lazy dog. How are you today, my friend?"
    subprocess.run(["espeak-ng", "-w", str(raw), said], check=True)
    command = ["sox", "-G", str(raw), "-r", str(rate), "-c", str(channels), str(path)]
    subprocess.run(command, check=True)
    return path
