"""What servers of raw sockets share: their connections, until the block is left."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod


class RawServer(ABC):
    """Converses on each connection; whoever inherits makes the listeners, and says one answer.
    ``tls``: what it does that over, if not over the plain socket."""

    tls: ssl.SSLContext | None = None

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    async def _listen(self, host: str) -> int:
        """On a free port, which is returned."""
        server = await asyncio.start_server(self._connected, host, 0, ssl=self.tls)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    @abstractmethod
    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a request and answer it; whether the connection stays open."""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._converse(reader, writer):
                pass
        writer.close()
        del self._open[task]
