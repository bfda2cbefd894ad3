"""How requests reads answers: it passes over interim ones, and waits for none that drips for ever.

http.client takes an interim answer (103 Early Hints) for the last word, and what follows for the
answer to the next question on that connection. Its time-outs bound each silence only.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, ClassVar, Final, TypeVar, cast

import urllib3.connection

T = TypeVar("T")

INTERIM_MAX: Final = 32
"""Who says more before an answer has none, and keeps a thread for ever."""

ANSWER_S: Final = 60.0
"""An answer, its body too, is here after so long, or nobody waits for it any more, unless ..."""

DRIP_BPS: Final = 256.0
"""... it comes faster than that: a long listing over a poor line."""

ANSWER_BYTES_MAX: Final = 64 << 20
"""What comes beyond wins no more time."""


class Waiting:
    """How long a question is waited for: ``limit_s``, and on while its answer does not drip."""

    def __init__(
        self, limit_s: float = ANSWER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._until_s = clock() + limit_s
        self._bytes = 0
        self._given_up = False

    @property
    def left_s(self) -> float:
        """0 and less: no more."""
        return 0.0 if self._given_up else self._until_s - self._clock()

    def came(self, size_bytes: int) -> None:
        """So much of the answer is here; a burst earns no more than ``limit_s`` after it."""
        self._bytes += size_bytes
        if self._bytes <= ANSWER_BYTES_MAX:
            longer_s = self._until_s + size_bytes / DRIP_BPS
            self._until_s = min(longer_s, self._clock() + self._limit_s)

    @contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """What is read in the block is the answer."""
        _asked.waiting = self
        try:
            yield
        finally:
            _asked.waiting = None

    async def bound(self, answer: Coroutine[Any, Any, T]) -> T:
        """The answer; threads that still read when it is over, however it ends, do not for long.

        Raises:
            TimeoutError: it is not waited for any more.
        """
        asking = asyncio.ensure_future(answer)
        try:
            while not asking.done() and (left_s := self.left_s) > 0:
                await asyncio.wait({asking}, timeout=left_s)
            if not asking.done():
                raise TimeoutError("the answer drips, or does not come")
            return asking.result()
        finally:
            self._given_up = True
            if not asking.cancel() and not asking.cancelled():
                asking.exception()  # seen, though somebody else may have ended this


class _Asked(threading.local):
    waiting: Waiting | None = None


_asked: Final = _Asked()


class InTime(io.RawIOBase):
    """Reads ``raw`` as long as it is waited for."""

    def __init__(self, raw: io.RawIOBase, waiting: Waiting) -> None:
        super().__init__()
        self._raw = raw
        self._waiting = waiting

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Raises TimeoutError: the time is over."""
        if self._waiting.left_s <= 0:
            raise TimeoutError("the answer drips")
        size = cast("int | None", self._raw.readinto(buffer))
        self._waiting.came(size or 0)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class LastWord(http.client.HTTPResponse):
    """A response without those that come before it, waited for as the question is, or by itself."""

    limit_s: ClassVar[float] = ANSWER_S

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        waiting = _asked.waiting or Waiting(self.limit_s)
        self.fp: Any = io.BufferedReader(InTime(self.fp.detach(), waiting))

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
