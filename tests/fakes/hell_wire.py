"""The wire of the link from hell: requests read, heads written, a shaped link, cuts.

Owns bytes and sockets; knows nothing of faults' order or of what is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import socket
import struct
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

PIECE_BYTES = 32 * 1024
BURST_S = 0.03
"""So much unused capacity may be caught up with: timers are late now and then."""

SEND_BUFFER_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The query's names and values."""
        return {k: v[0] for k, v in parse_qs(urlsplit(self.target).query).items()}

    def span(self, size: int) -> tuple[int, int] | None:
        """The range asked for, as start and stop; None if the whole file is wanted."""
        found = _RANGE.fullmatch(self.headers.get("range", ""))
        if not found:
            return None
        return int(found[1]), min(size, int(found[2]) + 1) if found[2] else size


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request; None when the client has left."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, target, _version = first.split(" ")
    pairs = (line.split(":", 1) for line in lines)
    return Request(method, target, {k.strip().lower(): v.strip() for k, v in pairs})


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{k}: {v}" for k, v in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Shaper:
    """Lets ``rate_bps`` bytes a second pass, in the order of asking."""

    def __init__(self, rate_bps: float) -> None:
        self._rate_bps = rate_bps
        self._free_at_s = 0.0

    async def turn(self, count_bytes: int) -> None:
        """Wait until so many bytes may pass."""
        now_s = time.monotonic()
        self._free_at_s = max(self._free_at_s, now_s - BURST_S) + count_bytes / self._rate_bps
        if (wait_s := self._free_at_s - now_s) > 0:
            await asyncio.sleep(wait_s)


class Connection:
    """One accepted connection. ``own``: the shaper of what it may have of the link."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own_bps: float | None
    ) -> None:
        self.reader = reader
        self._writer = writer
        self._own = Shaper(own_bps) if own_bps else None
        self.answers = 0
        writer.transport.set_write_buffer_limits(high=0)
        self._socket: socket.socket = writer.get_extra_info("socket")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    async def give(self, data: bytes | memoryview) -> None:
        """Send; returns when the kernel has it. Raises ConnectionError when the client left."""
        if self._writer.transport.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def turn(self, shared: Shaper, count_bytes: int) -> None:
        """Wait until this connection may send so many bytes over the shared link."""
        if self._own:
            await self._own.turn(count_bytes)
        await shared.turn(count_bytes)

    async def left(self) -> None:
        """Return when the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass

    async def settle(self) -> None:
        """Wait a little until the client's kernel has what was sent: a cut loses nothing of it."""
        for _ in range(50):
            waiting = fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0\0\0\0")
            if struct.unpack("i", waiting)[0] == 0:
                return
            await asyncio.sleep(0.001)

    def reset(self) -> None:
        """End it by RST."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """End it by FIN."""
        self._writer.close()
