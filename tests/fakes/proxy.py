"""A forward proxy on loopback: the only one who knows where the hosts under ``.invalid`` are, so
that whoever reaches them went through it. Plain HTTP by absolute URLs, anything else by CONNECT.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

HOST = "127.0.0.1"
PIECE_BYTES = 65_536


class Proxy:
    """``ports``: host → port on loopback. ``seen``: (method, host) of each request."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        self.ports = dict(ports)
        self.seen: list[tuple[str, str]] = []
        self.port = 0
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        """What http_proxy and https_proxy are to be."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._open.values()):
            writer.transport.abort()
        await asyncio.gather(*list(self._open))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        writer.close()
        del self._open[task]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = head.rstrip().split("\r\n")
        method, target, version = first.split(" ")
        place = urlsplit(f"//{target}" if method == "CONNECT" else target)
        self.seen.append((method, str(place.hostname)))
        there, back = await asyncio.open_connection(HOST, self.ports[str(place.hostname)])
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        else:
            path = place._replace(scheme="", netloc="").geturl() or "/"
            kept = [h for h in rest if not h.lower().startswith(("connection:", "proxy-"))]
            lines = [f"{method} {path} {version}", *kept, "Connection: close", "", ""]
            back.write("\r\n".join(lines).encode("latin-1"))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(there, writer))
                group.create_task(_pump(reader, back))
        except* ConnectionError:
            pass  # either side has left, which ends the tunnel
        finally:
            back.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(PIECE_BYTES):
        sink.write(piece)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
