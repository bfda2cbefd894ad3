"""Interim answers are passed over, as far as there is an end to them; nobody waits for a drip."""

from __future__ import annotations

import asyncio
import http.client
import io
import socket
from typing import Any

import pytest

from moshid.downloads.interim import (
    ANSWER_BYTES_MAX,
    ANSWER_S,
    INTERIM_MAX,
    InTime,
    LastWord,
    Waiting,
)
from tests.fakes.hand_clock import HandClock

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def answered(content: bytes, kind: type[LastWord] = LastWord) -> LastWord:
    """The answer in what a server said before it left."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(content)
        theirs.shutdown(socket.SHUT_WR)
        answer = kind(ours)
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer


def test_the_answer_after_the_last_of_them_counts() -> None:
    answer = answered(HINT * (INTERIM_MAX - 1) + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert answer.status == 200
    answer.close()


class Line(io.RawIOBase):
    """``size_bytes`` of x at a rate by the clock; then ``drip``, a byte each nine seconds."""

    def __init__(self, clock: HandClock, bps: int, size_bytes: int, *, drip: bool = False) -> None:
        super().__init__()
        self._clock = clock
        self._bps = bps
        self._left_bytes = size_bytes
        self._drip = drip

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """What came next."""
        size = min(self._bps, self._left_bytes, len(buffer))
        self._clock.advance(size / self._bps)
        self._left_bytes -= size
        if size == 0 and self._drip:
            self._clock.advance(9.0)
            size = 1
        buffer[:size] = b"x" * size
        return size


def read(line: Line, clock: HandClock) -> bytes:
    """All of it, if it is waited for."""
    with io.BufferedReader(InTime(line, Waiting(clock=clock.clocks.steady))) as body:
        return body.read()


def test_an_answer_that_keeps_coming_is_waited_for() -> None:
    """A listing of thousands of files over a line of 2 kB/s."""
    clock = HandClock()
    began_s = clock.steady_s
    assert len(read(Line(clock, 2000, 1_000_000), clock)) == 1_000_000
    assert clock.steady_s - began_s > 8 * ANSWER_S


@pytest.mark.parametrize("burst_bytes", [0, 1_000_000])
def test_an_answer_that_drips_is_not_waited_for(burst_bytes: int) -> None:
    """Each byte comes in time; all of them never would, whatever came before."""
    clock = HandClock()
    began_s = clock.steady_s
    with pytest.raises(TimeoutError):
        read(Line(clock, 1_000_000, burst_bytes, drip=True), clock)
    assert ANSWER_S <= clock.steady_s - began_s < ANSWER_S + 12


def test_nor_is_one_without_an_end() -> None:
    clock = HandClock()
    waiting = Waiting(clock=clock.clocks.steady)
    waiting.came(ANSWER_BYTES_MAX)
    waiting.came(ANSWER_BYTES_MAX)
    clock.advance(ANSWER_S)
    waiting.came(ANSWER_BYTES_MAX)
    assert waiting.left_s <= 0


class Hasty(LastWord):
    """Is here at once, or not at all."""

    limit_s = 0.0


def test_who_is_asked_by_nobody_in_particular_has_a_limit_too() -> None:
    with pytest.raises(TimeoutError):
        answered(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Hasty)


class Growing(Waiting):
    """Has little time left, as often as it is looked at, and at the third look the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.answer = asyncio.Event()

    @property
    def left_s(self) -> float:
        self.looks += 1
        if self.looks == 3:
            self.answer.set()
        return 0.001


@pytest.mark.asyncio
async def test_who_waits_looks_again_when_the_time_is_over() -> None:
    waiting = Growing()
    assert await waiting.bound(waiting.answer.wait())
    with pytest.raises(TimeoutError):
        await Waiting(0.0).bound(asyncio.Event().wait())


def test_who_sends_nothing_else_has_no_answer() -> None:
    with pytest.raises(http.client.HTTPException, match="without an end"):
        answered(HINT * 2 * INTERIM_MAX)
