"""Interim answers are passed over, as far as there is an end to them."""

from __future__ import annotations

import http.client
import io
import socket
from typing import Any

import pytest

from moshid.downloads.interim import INTERIM_MAX, InTime, LastWord

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


class Drip(io.RawIOBase):
    """A byte at a time, for ever."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """One more."""
        buffer[0] = ord("a")
        return 1


class Hasty(LastWord):
    """Is here at once, or not at all."""

    limit_s = 0.0


def test_an_answer_that_drips_is_not_waited_for() -> None:
    """Each byte comes in time; all of them never would."""
    with io.BufferedReader(InTime(Drip(), 0.1)) as body, pytest.raises(TimeoutError):
        body.read()
    with pytest.raises(TimeoutError):
        answered(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Hasty)


def test_who_sends_nothing_else_has_no_answer() -> None:
    with pytest.raises(http.client.HTTPException, match="without an end"):
        answered(HINT * 2 * INTERIM_MAX)
