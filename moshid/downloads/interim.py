"""Lets requests pass over interim answers (103 Early Hints).

http.client takes them for the last word, and what follows for the answer to the next question on
that connection.
"""

from __future__ import annotations

import http.client
from http import HTTPStatus
from typing import Any, Final

import urllib3.connection

INTERIM_MAX: Final = 32
"""Who says more before an answer has none, and keeps a thread for ever."""


class LastWord(http.client.HTTPResponse):
    """A response without those that come before it."""

    def begin(self) -> None:
        super().begin()
        for _ in range(INTERIM_MAX):
            if not self._is_interim():
                return
            self.headers: Any = None  # or it has begun already
            super().begin()
        raise http.client.HTTPException("interim answers without an end")

    def _is_interim(self) -> bool:
        interim = HTTPStatus.CONTINUE <= self.status < HTTPStatus.OK
        return interim and self.status != HTTPStatus.SWITCHING_PROTOCOLS


def pass_over_interim_answers() -> None:
    """For all connections of requests in this process."""
    urllib3.connection.HTTPConnection.response_class = LastWord
