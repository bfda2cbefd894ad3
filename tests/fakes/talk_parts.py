"""A talk's parts as fakes behind their Protocols: they do what a test says, and keep the order."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moshid import home
from moshid.errors import MoshidError
from moshid.events import Bus, Subscription
from moshid.model.files import CheckpointPaths
from moshid.settings import Settings
from moshid.talk.keeping import PATIENCE_S
from moshid.talk.service import TalkService

PATHS = CheckpointPaths(
    quality="bf16",
    config=None,
    weights=Path("w"),
    tokenizer=Path("t"),
    codec_weights=Path("c"),
    codec_config=None,
    codec_kind="rustymimi",
    codebooks=8,
    delay_frames=2,
)


@dataclass
class FakeParts:
    """Library, model and audio in one; ``happened`` is the order in which they were asked."""

    happened: list[str] = field(default_factory=list)
    fail: dict[str, MoshidError] = field(default_factory=dict)
    hooks: dict[str, Any] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)
    keep_alive: str | float | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    spans: list[Any] = field(default_factory=list)
    resident: dict[str, Any] = field(default_factory=lambda: {"model": None, "state": "unloaded"})
    controls: dict[str, Any] = field(default_factory=lambda: {"muted": False, "volume": 1.0})
    params: dict[str, Any] = field(default_factory=dict)
    on_event: Callable[[str, dict[str, Any]], None] = lambda _event, _data: None
    opening: asyncio.Event = field(default_factory=asyncio.Event)
    may_open: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    may_close: asyncio.Event = field(default_factory=asyncio.Event)

    def _did(self, what: str) -> None:
        self.happened.append(what)
        if what in self.fail:
            raise self.fail[what]

    async def ensure(
        self,
        model: str,
        quality: str,
        *,
        fetch: bool,
        confirmed: bool,
        before: Callable[[], Awaitable[None]],
    ) -> CheckpointPaths:
        """Library."""
        assert (model, quality, fetch, confirmed) == ("moshiko", "auto", False, False)
        self.opening.set()
        await self.may_open.wait()
        await before()
        self._did("ensure")
        return PATHS

    def status(self) -> dict[str, Any]:
        """Model."""
        return dict(self.resident)

    async def find_devices(self, ends: dict[str, Any]) -> None:
        """Audio."""
        assert set(ends) == {"input", "output", "in_file", "out_file"}
        self._did("find_devices")

    async def load(
        self,
        paths: CheckpointPaths,
        *,
        model: str,
        quality: str,
        keep_alive: str | float | None,
        session: str,
    ) -> dict[str, Any]:
        """Model."""
        assert (paths, model, quality) == (PATHS, "moshiko", "bf16")
        assert session
        self.keep_alive = keep_alive
        self._did("load")
        return {}

    async def begin_talk(
        self, session: str, epoch: int, sock: socket.socket, sampling: dict[str, Any], **hooks: Any
    ) -> None:
        """Model."""
        self.epochs.append(epoch)
        self.begun.set()
        self.hooks = hooks
        sock.close()
        assert sampling["seed"] == 7
        self.sampling = sampling
        assert session
        self._did("begin_talk")

    async def end_talk(self, session: str) -> None:
        """Model."""
        assert session
        self._did("end_talk")

    def set_codec(self, codec: dict[str, Any] | None) -> None:
        """Audio."""
        assert codec is not None
        self._did("set_codec")

    async def start_talk(
        self,
        params: dict[str, Any],
        codec: dict[str, Any] | None,
        sock: socket.socket | None,
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Audio."""
        echo = params["engine"] == "echo"
        assert (codec is None) == (sock is None) == echo
        self.on_event = on_event
        self.params = params
        self._did("start_talk")
        stats = {"controls": dict(self.controls)}
        return {"devices": {"input": "mic", "output": "spk"}, "stats": stats}

    async def rejoin(self, session: str, epoch: int, sock: socket.socket) -> None:
        """Audio."""
        assert session
        assert sock.fileno() >= 0
        self.epochs.append(-epoch)
        self._did("rejoin")

    async def set_controls(self, session: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Audio."""
        assert session
        self._did("set_controls")
        self.controls |= {name: value for name, value in changes.items() if value is not None}
        return dict(self.controls)

    async def trace(self, session: str) -> list[Any]:
        """Audio."""
        assert session
        self._did("trace")
        return self.spans

    async def stop_talk(self, session: str) -> dict[str, Any]:
        """Audio."""
        assert session
        self.closing.set()
        await self.may_close.wait()
        self._did("stop_talk")
        return {"frames": 12, "underruns": 1}


@asynccontextmanager
async def talking(
    folder: Path, parts: FakeParts, bus: Bus, *, patience_s: float = PATIENCE_S
) -> AsyncIterator[TalkService]:
    """A talk service at work; at the end it is stopped and has to leave no socket open."""
    settings = Settings(home=folder, socket=folder / "s", talk_keep_transcripts=2)
    home.prepare(settings)
    service = TalkService(settings, bus, parts, parts, parts, patience_s=patience_s)
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    parts.may_open.set()
    parts.may_close.set()
    before = len(os.listdir("/dev/fd"))
    yield service
    task.cancel()
    await asyncio.wait({task})
    assert len(os.listdir("/dev/fd")) <= before, "no socket is left open"


async def until(events: Subscription, state: str) -> dict[str, Any]:
    """The talk event that says ``state``."""
    while True:
        data = (await events.take()).event.data
        if data.get("state") == state:
            return data
