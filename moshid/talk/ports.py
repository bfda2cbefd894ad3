"""What a talk needs of the parts it joins. Protocols only: the parts do not know of talks."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from moshid.errors import MoshidError
from moshid.model.files import CheckpointPaths


class LibraryPort(Protocol):
    """Finds a model on disk, or fetches it first. See ``Library``."""

    async def ensure(
        self,
        model: str,
        quality: str,
        *,
        fetch: bool,
        confirmed: bool,
        before: Callable[[], Awaitable[None]],
    ) -> CheckpointPaths:
        """The model's files; ``before`` is asked before anything is fetched."""
        ...


class ModelPort(Protocol):
    """The resident model. See ``ModelService``."""

    def status(self) -> dict[str, Any]:
        """The contract's model status."""
        ...

    async def load(
        self,
        paths: CheckpointPaths,
        *,
        model: str,
        quality: str,
        keep_alive: str | float | None,
        session: str,
    ) -> dict[str, Any]:
        """Make it resident, at once if it is already, and hold it until ``end_talk``."""
        ...

    async def begin_talk(
        self,
        session: str,
        epoch: int,
        sock: socket.socket,
        sampling: dict[str, Any],
        *,
        on_text: Callable[[dict[str, Any]], None],
        on_gone: Callable[[MoshidError], None],
        on_restarted: Callable[[], None],
        on_failed: Callable[[MoshidError], None],
    ) -> None:
        """Serve token frames on ``sock`` (given away) from a fresh state."""

    async def end_talk(self, session: str) -> None:
        """Stop serving; no error if it is not."""


class AudioPort(Protocol):
    """The sound. See ``AudioService``."""

    def set_codec(self, codec: dict[str, Any] | None) -> None:
        """Have the spare worker build this codec."""

    async def find_devices(self, ends: dict[str, Any]) -> None:
        """See whether the devices are there that ``{input, output, in_file, out_file}`` mean."""

    async def start_talk(
        self,
        params: dict[str, Any],
        codec: dict[str, Any] | None,
        sock: socket.socket | None,
        on_event: Callable[[str, dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Open the devices and run the loop on ``sock`` (which the caller closes); answers
        ``{devices, ...}``."""
        ...

    async def rejoin(self, session: str, epoch: int, sock: socket.socket) -> None:
        """Go on with a new model process on ``sock`` (which the caller closes)."""

    async def set_controls(self, session: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change mute, push-to-talk, volume or pause; answers all of them."""
        ...

    async def trace(self, session: str) -> list[Any]:
        """Where the newest frames' time went: ``[stage, frame, at_us, duration_us]``."""
        ...

    async def stop_talk(self, session: str) -> dict[str, Any]:
        """Stop, drain, close; answers the final stats, ``{}`` when it is over already."""
        ...
