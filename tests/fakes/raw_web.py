"""A web server of raw sockets whose every answer a test writes out, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Self

from tests.fakes.hell_wire import Request, read_request
from tests.fakes.raw_server import RawServer
from tests.fakes.url_jobs import FILE


class Asked(Request):
    """A request for a file, or a part of it."""

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


class RawWeb(RawServer):
    """Answers with ``handler``'s bytes until the block is left; closes a connection after an answer
    that says so."""

    def __init__(self, handler: Handler, host: str = "127.0.0.1") -> None:
        super().__init__()
        self.handler = handler
        self.seen: list[Asked] = []
        self._host = host

    def url(self, target: str = "/file.bin") -> str:
        """The address of a target."""
        return f"http://{self._host}:{self.port}{target}"

    async def __aenter__(self) -> Self:
        self.port = await self._listen(self._host)
        return self

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await read_request(reader)
        if request is None:
            return False
        self.seen.append(Asked(request.method, request.target, request.headers))
        told = self.handler(self.seen[-1])
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
