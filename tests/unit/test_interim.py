"""Interim answers are passed over, as far as there is an end to them."""

from __future__ import annotations

import http.client
import socket

import pytest

from moshid.downloads.interim import INTERIM_MAX, LastWord

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def answered(content: bytes) -> LastWord:
    """The answer in what a server said before it left."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(content)
        theirs.shutdown(socket.SHUT_WR)
        answer = LastWord(ours)
        answer.begin()
        return answer


def test_the_answer_after_the_last_of_them_counts() -> None:
    answer = answered(HINT * (INTERIM_MAX - 1) + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert answer.status == 200
    answer.close()


def test_who_sends_nothing_else_has_no_answer() -> None:
    with pytest.raises(http.client.HTTPException, match="without an end"):
        answered(HINT * 2 * INTERIM_MAX)
