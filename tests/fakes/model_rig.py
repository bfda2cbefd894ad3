"""The model's service with its real worker process, and the other ends of a talk."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from moshid.demo import parrot
from moshid.errors import (
    MoshidError,
)
from moshid.events import Bus, Subscription
from moshid.ipc import FrameDecoder, FrameKind, TokenFrame
from moshid.model import pressure
from moshid.model.files import CheckpointPaths, locate
from moshid.model.residency import WORKER_MODULE
from moshid.model.service import ModelService
from moshid.settings import Settings
from tests.fakes import small_models

SAMPLING = {"seed": 1}
SILENCE = parrot.SILENCE_CODES


@asynccontextmanager
async def running(
    tmp_path: Path,
    *,
    worker_module: str = WORKER_MODULE,
    system: pressure.System = pressure.SYSTEM,
    **settings: Any,
) -> AsyncIterator[tuple[ModelService, Bus]]:
    """A service in a task group, as in the daemon; ended in order."""
    bus = Bus()
    home = tmp_path / "home"
    values = {"model_restart_backoff_s": 0.01} | settings
    service = ModelService(
        Settings(home=home, socket=home / "s", **values),
        bus,
        worker_module=worker_module,
        system=system,
    )
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    try:
        yield service, bus
    finally:
        task.cancel()
        await asyncio.wait({task})
        while OPEN:
            OPEN.pop().close()


def demo_paths(folder: Path, quality: str = "bf16") -> CheckpointPaths:
    return locate("moshid/demo", quality, {p.name: p for p in folder.iterdir()})


def small_paths(folder: Path, quality: str = "bf16", **numbers: Any) -> CheckpointPaths:
    """A random model without a codec, which the model part does not need."""
    small_models.write_checkpoint(folder, small_models.config(**numbers))
    (folder / "codec.safetensors").write_bytes(b"")
    return locate("some/model", quality, {p.name: p for p in folder.iterdir()})


async def seen(subscription: Subscription, wanted: Callable[[dict[str, Any]], bool]) -> list[Any]:
    """The model's events until (and with) the first that is ``wanted``."""
    events = []
    while True:
        data = (await subscription.take()).event.data
        events.append(data)
        if wanted(data):
            return events


def is_state(state: str) -> Callable[[dict[str, Any]], bool]:
    return lambda data: data["event"] == "state" and data["status"]["state"] == state


OPEN: list[socket.socket] = []
"""The peers' ends; ``running`` closes them."""


class Peer:
    """The audio worker's end: sends USER frames, receives the answers."""

    def __init__(self, epoch: int = 1) -> None:
        self.ours, self.theirs = socket.socketpair()
        OPEN.append(self.ours)
        self.ours.setblocking(False)
        self.epoch = epoch
        self._decoder = FrameDecoder()
        self._frames: list[TokenFrame] = []

    async def send(self, frame: TokenFrame) -> None:
        await asyncio.get_running_loop().sock_sendall(self.ours, frame.pack())

    async def receive(self) -> TokenFrame | None:
        """The next frame, None at end of file."""
        while not self._frames:
            data = await asyncio.get_running_loop().sock_recv(self.ours, 4096)
            if not data:
                return None
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def ask(self, index: int, tokens: tuple[int, ...]) -> TokenFrame:
        await self.send(
            TokenFrame(FrameKind.USER, self.epoch, index, capture_ns=1000 + index, tokens=tokens)
        )
        answer = await self.receive()
        assert answer is not None
        assert (answer.kind, answer.epoch, answer.frame) == (FrameKind.MODEL, self.epoch, index)
        assert answer.capture_ns == 1000 + index
        return answer


class Ears:
    """What a talk heard of its model."""

    def __init__(self) -> None:
        self.text: list[dict[str, Any]] = []
        self.gone: asyncio.Queue[MoshidError] = asyncio.Queue()
        self.restarted = asyncio.Event()
        self.failed: asyncio.Queue[MoshidError] = asyncio.Queue()

    def hooks(self) -> dict[str, Any]:
        return {
            "on_text": self.text.append,
            "on_gone": self.gone.put_nowait,
            "on_restarted": self.restarted.set,
            "on_failed": self.failed.put_nowait,
        }


def random_frames(count: int) -> list[tuple[int, ...]]:
    rng = random.Random(4)
    return [tuple(rng.randrange(2048) for _ in range(8)) for _ in range(count)]
