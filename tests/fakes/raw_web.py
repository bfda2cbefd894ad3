"""A web server of raw sockets whose every answer a test writes out, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from tests.fakes.url_jobs import FILE


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, its header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """The positions asked for, the last one included."""
        first, _, last = self.headers.get("range", "").removeprefix("bytes=").partition("-")
        return (int(first), int(last)) if last else None

    @property
    def probes(self) -> bool:
        """Whether the first byte alone is asked for."""
        return self.range == (0, 0)


Handler = Callable[[Asked], bytes]


class RawWeb:
    """Answers with ``handler``'s bytes until the block is left; closes a connection after an answer
    that says so."""

    def __init__(self, handler: Handler, host: str = "127.0.0.1") -> None:
        self.handler = handler
        self.seen: list[Asked] = []
        self._host = host
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def url(self, target: str = "/file.bin") -> str:
        """The address of a target."""
        return f"http://{self._host}:{self.port}{target}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        writer.close()
        del self._open[task]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _version = head[0].split(" ")
        fields = (line.partition(":") for line in head[1:] if line)
        asked = Asked(method, target, {k.strip().lower(): v.strip() for k, _, v in fields})
        self.seen.append(asked)
        told = self.handler(asked)
        writer.write(told)
        await writer.drain()
        return b"connection: close" not in told.partition(b"\r\n\r\n")[0].lower()


def answer(
    status: int,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    length: bool = True,
) -> bytes:
    """An answer; without ``length`` its body ends when the connection does."""
    how = {"Content-Length": str(len(body))} if length else {"Connection": "close"}
    lines = [f"{k}: {v}\r\n" for k, v in (how | dict(headers or {})).items()]
    return f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode() + body


def part(asked: Asked, headers: Mapping[str, str] | None = None, content: bytes = FILE) -> bytes:
    """The range that was asked for, as it should be but for ``headers``."""
    if asked.range is None:
        return answer(200, headers, content)
    first, last = asked.range[0], min(asked.range[1], len(content) - 1)
    told = {"Content-Range": f"bytes {first}-{last}/{len(content)}"} | dict(headers or {})
    return answer(206, told, content[first : last + 1])
