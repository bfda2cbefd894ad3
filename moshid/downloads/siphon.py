"""Takes the body of a fast plain connection off the event loop: receive, hash, write, in a thread.

Owns the socket that it takes over from aiohttp. At loopback and LAN speed the loop would have no
time left for anybody else; on slow or encrypted lines it has plenty, and nothing is taken over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Final

import aiohttp

from moshid.downloads.disk import Partial
from moshid.downloads.landing import Landing
from moshid.downloads.pages import begin_writing
from moshid.downloads.stall import Watch

BATCH_BYTES: Final = 2 << 20
"""So much is received before it is hashed and written: each step gives the interpreter's lock away
and has to get it back, which costs more than what a smaller batch saves in the core's cache."""

LOOK_S: Final = 0.05
"""So often at least the event loop hears how far it is, and may end it."""

_thread = threading.local()


class Siphon:
    """The rest of an answer's body, read from its socket."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        """Take over; the loop must not have had a turn since the answer was last read."""
        self.early: list[bytes] = []
        while piece := answer.content.read_nowait(-1):
            self.early.append(piece)
        assert answer.connection is not None
        transport = answer.connection.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        self._transport = transport
        self._socket = transport.get_extra_info("socket").dup()
        self._socket.settimeout(LOOK_S)

    @staticmethod
    def fits(answer: aiohttp.ClientResponse) -> bool:
        """Whether the body, whose length was told, is on a plain socket and not all here yet."""
        connection = answer.connection
        if connection is None or connection.transport is None or answer.content.is_eof():
            return False
        return connection.transport.get_extra_info("sslcontext") is None

    def hop(self, landing: Landing, partial: Partial, most_bytes: int, watch: Watch) -> bool:
        """Bring up to so many bytes, or what comes in ``LOOK_S``; whether the connection gives no
        more. Blocking, in a thread.

        Raises:
            OSError: the disk cannot take them. What the network does ends the catch.
        """
        whole, caught, ended, start = _buffer(), 0, False, landing.at
        while caught < most_bytes and not ended:
            view = whole[: most_bytes - caught]
            filled, ended = self._fill(view)
            if filled:
                watch.took(filled)
                with watch.resting():
                    landing.land(partial, [view[:filled]])
                caught += filled
            if filled < len(view):
                break
        if landing.at > start:
            begin_writing(partial.fd, start, landing.at)
        return ended

    def _fill(self, view: memoryview) -> tuple[int, bool]:
        filled, until_s = 0, time.monotonic() + LOOK_S
        while filled < len(view) and time.monotonic() < until_s:
            try:
                count = self._socket.recv_into(view[filled:])
            except TimeoutError:
                return filled, False
            except OSError:
                return filled, True
            if not count:
                return filled, True
            filled += count
        return filled, False

    def close(self) -> None:
        """Give the socket back to the loop; the body is no longer of use to aiohttp's reader."""
        self._socket.close()
        if not self._transport.is_closing():
            self._transport.resume_reading()


def _buffer() -> memoryview:
    """This thread's own buffer: it is in its core's cache."""
    if not hasattr(_thread, "buffer"):
        _thread.buffer = memoryview(bytearray(BATCH_BYTES))
    buffer: memoryview = _thread.buffer
    return buffer
