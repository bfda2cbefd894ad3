"""How requests reads answers: it passes over interim ones, and waits for none that drips for ever.

http.client takes an interim answer (103 Early Hints) for the last word, and what follows for the
answer to the next question on that connection. Its time-outs bound each silence only.
"""

from __future__ import annotations

import http.client
import io
import time
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

import urllib3.connection

INTERIM_MAX: Final = 32
"""Who says more before an answer has none, and keeps a thread for ever."""


ANSWER_S: Final = 60.0
"""An answer, its body too, is here after so long, or nobody waits for it any more."""


class InTime(io.RawIOBase):
    """Reads ``raw`` for so many seconds."""

    def __init__(self, raw: io.RawIOBase, limit_s: float) -> None:
        super().__init__()
        self._raw = raw
        self._until_s = time.monotonic() + limit_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Raises TimeoutError: the time is over."""
        if time.monotonic() >= self._until_s:
            raise TimeoutError("the answer drips")
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class LastWord(http.client.HTTPResponse):
    """A response without those that come before it, which is here in ``limit_s``."""

    limit_s: ClassVar[float] = ANSWER_S

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.fp: Any = io.BufferedReader(InTime(self.fp.detach(), self.limit_s))

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
