"""Takes the body of a fast plain connection off the event loop: receive, hash, write, in a thread.

Owns the socket that it takes over from aiohttp, and gives it back for the next question if it read
the body to its end. At loopback and LAN speed the loop would have no time left for anybody else; on
slow or encrypted lines it has plenty, and nothing is taken over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import aiohttp

from moshid.downloads.buffers import BLOCK_BYTES, BUFFER_BYTES, new_buffer
from moshid.downloads.disk import Partial
from moshid.downloads.front import Front, Piece
from moshid.downloads.landing import Landing
from moshid.downloads.pages import begin_writing
from moshid.downloads.stall import Watch

HELD_MIN_BYTES: Final = BUFFER_BYTES // 2
"""Less than that is not worth a buffer of its own: it is read again when its turn comes."""

LOOK_S: Final = 0.05
"""So often at least the event loop hears how far it is, and may end it."""

HEAD_BYTES: Final = 64 << 10
"""So much the event loop reads at once of the next answer: what comes with its head is copied four
times on its way through aiohttp."""

_thread = threading.local()


@runtime_checkable
class ReadsUpTo(Protocol):
    """What asyncio's own transports have, without a promise: how much they read at once."""

    max_size: int


@dataclass(frozen=True, slots=True)
class Errand:
    """What a thread is to bring: up to ``most_bytes`` of a landing, in steps of up to
    ``step_bytes``. After each it calls ``tell``, and asks whether it ``may_go_on``. ``watch`` rests
    until it is begun: threads are few, and a disk may hold them all."""

    landing: Landing
    partial: Partial
    watch: Watch
    most_bytes: int
    step_bytes: int
    tell: Callable[[], None]
    may_go_on: Callable[[], bool]


class Siphon:
    """The rest of an answer's body, read from its socket. ``front``: the whole-file hash, if it
    runs along; what it is about to reach waits for it in memory."""

    def __init__(self, answer: aiohttp.ClientResponse, front: Front | None) -> None:
        """Take over; the loop must not have had a turn since the answer was last read."""
        pieces = []
        while piece := answer.content.read_nowait(-1):
            pieces.append(piece)
        self._early = memoryview(b"".join(pieces))
        self._content = answer.content
        self._left_bytes = int(answer.headers["Content-Length"]) - answer.content.total_bytes
        self._front = front
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
        if answer.content.exception() is not None:
            return False
        return connection.transport.get_extra_info("sslcontext") is None

    def hop(self, errand: Errand) -> bool:
        """Bring what is asked for, or what comes in ``LOOK_S``; whether the connection gives no
        more. Blocking, in a thread.

        Raises:
            OSError: the disk cannot take it. What the network does ends the catch.
        """
        errand.watch.listen()
        left_bytes, until_s, ended = errand.most_bytes, time.monotonic() + LOOK_S, False
        while not ended and (step := errand.landing.claim(min(left_bytes, errand.step_bytes))):
            count, ended = self._catch(errand, step)
            left_bytes -= count
            if count:
                errand.tell()
            slow = count <= step - BLOCK_BYTES or time.monotonic() > until_s
            if slow or not errand.may_go_on():
                break
        return ended

    def _catch(self, errand: Errand, most_bytes: int) -> tuple[int, bool]:
        """A step: how much came, and whether no more will."""
        front, landing = self._front, errand.landing
        spare = None
        if front is not None and most_bytes >= HELD_MIN_BYTES:
            with errand.watch.resting():
                spare = front.buffer_for(landing.at)
        try:
            view = in_blocks(spare if spare is not None else _buffer(), landing, most_bytes)
            filled, ended = self._fill(view)
            errand.watch.took(filled)
            with errand.watch.resting():
                if front is not None and spare is not None and filled >= HELD_MIN_BYTES:
                    start = landing.at
                    landing.land_through(errand.partial, view[:filled])
                    front.hold(start, Piece(view[:filled], spare))
                    spare = None
                elif filled:
                    self._land(landing, errand.partial, view[:filled])
        finally:
            if front is not None and spare is not None:
                front.drop(spare)
        return filled, ended

    def _land(self, landing: Landing, partial: Partial, content: memoryview) -> None:
        """To be read again when the hash gets there, most likely out of the page cache."""
        start = landing.at
        landing.land(partial, [content])
        begin_writing(partial.fd, start, landing.at)
        if self._front is not None:
            self._front.wrote(start, landing.at)

    def _fill(self, view: memoryview) -> tuple[int, bool]:
        filled, until_s = self._take_early(view), time.monotonic() + LOOK_S
        while self._left_bytes and filled < len(view) and time.monotonic() < until_s:
            try:
                count = self._socket.recv_into(view[filled : filled + self._left_bytes])
            except TimeoutError:
                return filled, False
            except OSError:
                return filled, True
            if not count:
                return filled, True
            filled += count
            self._left_bytes -= count
        return filled, not (self._left_bytes or self._early)

    def _take_early(self, view: memoryview) -> int:
        """What had come before the socket was taken over."""
        count = min(len(view), len(self._early))
        view[:count], self._early = self._early[:count], self._early[count:]
        return count

    def close(self) -> None:
        """Give the socket back to the loop. A body that was read to its end has ended for aiohttp
        as well, which asks over the same connection again; any other is no longer of use to it."""
        self._socket.close()
        if not self._transport.is_closing():
            self._transport.resume_reading()
            if not self._left_bytes:
                if isinstance(self._transport, ReadsUpTo):
                    self._transport.max_size = HEAD_BYTES
                self._content.feed_eof()


def in_blocks(buffer: memoryview, landing: Landing, most_bytes: int) -> memoryview:
    """Room for the next bytes in a buffer: as far into a block as they are in the file, and up to
    the end of one, unless that is where the landing ends."""
    skew = landing.at % BLOCK_BYTES
    size = min(most_bytes, BUFFER_BYTES - skew)
    if size < landing.left_bytes and size > BLOCK_BYTES:
        size -= (landing.at + size) % BLOCK_BYTES
    return buffer[skew : skew + size]


def _buffer() -> memoryview:
    """This thread's own buffer."""
    if not hasattr(_thread, "buffer"):
        _thread.buffer = new_buffer()
    buffer: memoryview = _thread.buffer
    return buffer
