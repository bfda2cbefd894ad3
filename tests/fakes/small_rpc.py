"""A control plane with a small table of methods, and a client that says what it is told to."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from moshid.errors import ModelNotFound
from moshid.events import Bus
from moshid.rpc.caller import Caller
from moshid.rpc.methods import events as event_methods
from moshid.rpc.registry import Method, NoParams, Params, table


@dataclass
class SmallApp:
    """What the handlers below share with the test."""

    bus: Bus = field(default_factory=Bus)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    added: int = 0


class AddParams(Params):
    """Two numbers."""

    a: int
    b: int = 1


async def add(app: SmallApp, _caller: Caller, p: AddParams) -> dict[str, Any]:
    """Add two numbers."""
    app.added += 1
    return {"sum": p.a + p.b}


async def big(app: SmallApp, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Answer at length."""
    app.added += 1
    return {"text": "x" * 1_000_000}


async def broken(_app: SmallApp, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Fail in an unexpected way."""
    raise ZeroDivisionError("secret inside text")


async def missing(_app: SmallApp, _caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Fail by kind."""
    raise ModelNotFound("no model 'x'", suggestions=["y"])


async def wait(app: SmallApp, caller: Caller, _p: NoParams) -> dict[str, Any]:
    """Wait for ever."""
    caller.connection.on_close(app.closed.set)
    app.waiting.set()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        app.cancelled.set()
    return {}


METHODS = table(
    [
        Method("add", AddParams, add),
        Method("big", NoParams, big),
        Method("broken", NoParams, broken),
        Method("missing", NoParams, missing),
        Method("wait", NoParams, wait),
        *event_methods.METHODS,
    ]
)


class Client:
    """A line-JSON client for tests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, value: Any) -> None:
        """Send one JSON value as a line."""
        self.send_raw(json.dumps(value).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def receive(self) -> Any:
        """The next line's value; None at end of file."""
        line = await self.reader.readline()
        return json.loads(line) if line else None

    async def call(self, method: str, params: Any = None, request_id: Any = 1) -> Any:
        """One call's reply."""
        self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})
        return await self.receive()
