"""The link from hell: a Hub and its CDN behind a shaped line with each fault of issue 3, by a seed.

``async with HellHub(content, hell)``; for one in a process of its own see ``hell_server``. Hub and
CDN have a port each and share the line. What cannot be had on loopback: a name that stops
resolving. In its place some signed URLs name a host under ``.invalid``, which never resolves (the
next signed URL does), and while offline both ports refuse connections or swallow them.

Owns who listens when, and the faults of the clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from tests.fakes.hell_account import Account
from tests.fakes.hell_plan import Burst, Fates, Hell
from tests.fakes.hell_visit import COMMIT, HOST, NAME, REPO, Gone, Link, Visit
from tests.fakes.hell_wire import Connection, Request, Shaper, read_request

__all__ = ["COMMIT", "HOST", "NAME", "REPO", "HellHub"]

log = logging.getLogger(__name__)


class HellHub:
    """Serves one file; ``sha256``: its digest, if it is known."""

    def __init__(self, content: bytes | mmap.mmap, hell: Hell, *, sha256: str = "") -> None:
        self.account = Account(len(content), hell.capacity_bps, hell.connection_bps)
        self.link = Link(
            memoryview(content),
            sha256 or hashlib.sha256(content).hexdigest(),
            hell,
            self.account,
            Fates(hell),
            Shaper(hell.capacity_bps),
        )
        self.log: list[dict[str, Any]] = []
        self._open: dict[asyncio.Task[None], Connection] = {}
        self._servers: list[asyncio.Server] = []
        self._times: list[asyncio.Task[None]] = []

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://{HOST}:{self.link.ports[0]}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await _cancel(self._times)
        await self._hang_up()

    async def _listen(self) -> None:
        self._servers = [
            await asyncio.start_server(self._connected, HOST, port, backlog=256)
            for port in self.link.ports
        ]
        hub, cdn = (s.sockets[0].getsockname()[1] for s in self._servers)
        self.link.ports = hub, cdn

    async def _hang_up(self) -> None:
        """Refuse connections, and reset those that there are."""
        for server in self._servers:
            server.close()
        for connection in list(self._open.values()):
            connection.reset()
        await _cancel(list(self._open))

    def _start_time(self) -> None:
        if not self._times:
            h = self.link.hell
            busy = [("429", h.too_many), ("503", h.unavailable)]
            down = [("offline", h.offline), ("black hole", h.black_hole)]
            spells = [self._spells(name, b) for name, b in busy + down if b]
            self._times = [asyncio.create_task(s) for s in spells]
            self.account.begin()

    async def _spells(self, name: str, burst: Burst) -> None:
        for begins_s, ends_s in self.link.fates.times(name, burst):
            await asyncio.sleep(begins_s - self.account.now_s)
            self.account.outages.append((name, begins_s, ends_s))
            self.account.counts[f"{name} spells"] += 1
            if name.isdecimal():
                self.link.shut[int(name)] = ends_s
                self.account.shut(ends_s)
            else:
                await self._down(ends_s, black_hole=name == "black hole")

    async def _down(self, until_s: float, *, black_hole: bool) -> None:
        """Gone for a while: refusing (an interface that is down), or swallowing (a dead router)."""
        with self.account.down():
            self.link.black_hole = black_hole
            if not black_hole:
                await self._hang_up()
            await asyncio.sleep(until_s - self.account.now_s)
            if not black_hole:
                await self._listen()
            self.link.black_hole = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._open[task] = Connection(reader, writer, self.link.hell.connection_bps)
        self.account.counts["connections"] += 1
        try:
            while (request := await read_request(reader)) is not None:
                self._start_time()
                with self._logged(connection, request) as entry:
                    await Visit(self.link, connection, request, entry).answer()
                connection.answers += 1
        except (ConnectionError, asyncio.CancelledError):
            connection.reset()
        except Gone:
            log.debug("a connection is over")
        finally:
            connection.close()
            self._open.pop(task, None)

    @contextmanager
    def _logged(self, connection: Connection, request: Request) -> Iterator[dict[str, Any]]:
        self.account.counts["requests"] += 1
        entry: dict[str, Any] = {
            "at_s": round(self.account.now_s, 3),
            "connection": id(connection),
            "what": f"{request.method} {request.path[-24:]}",
            "range": request.headers.get("range", ""),
            "told": "left",
            "bytes": 0,
        }
        self.log.append(entry)
        try:
            yield entry
        finally:
            entry["until_s"] = round(self.account.now_s, 3)

    def report(self) -> dict[str, Any]:
        """The account, and each request."""
        return self.account.report() | {"log": self.log}


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
