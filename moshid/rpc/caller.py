"""Who calls: the connection and the request. What handlers may do with either, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from moshid.events import Subscription


class ConnectionHandle(Protocol):
    """What a handler may know of its connection."""

    @property
    def id(self) -> int:
        """A number that no other connection of this daemon's life has."""
        ...

    @property
    def client(self) -> str:
        """What the client called itself in daemon.hello, or its process id."""
        ...

    @client.setter
    def client(self, name: str) -> None: ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` once the connection is lost."""

    def open_subscription(self, subscription: Subscription) -> int:
        """Adopt a subscription; its events flow once ``start_subscription`` is called."""
        ...

    def start_subscription(self, number: int) -> None:
        """Let the events flow."""

    def close_subscription(self, number: int) -> bool:
        """End one; False if there is none of that number."""
        ...


@dataclass(slots=True)
class Caller:
    """One request being served."""

    connection: ConnectionHandle
    request_id: str | int | float | None
    after_reply: list[Callable[[], None]] = field(default_factory=list)
    """Run in order once the reply has been written."""
