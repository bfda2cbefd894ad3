"""The spare audio worker: a warm process that takes the next talk. Owns its making and keeping.

::

    none ──start──▶ starting ──prepare──▶ ready ──take──▶ (the caller's)
     ▲                 │ died: back-off      │ died, or the codec changed
     └─────────────────┴─────────────────────┘
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from moshid.audio.request import CodecSpec, Prepare
from moshid.backoff import Backoff
from moshid.errors import AudioWorkerDied, MoshidError, WorkerDied
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

SPARE_TRIES_MAX: Final = 5
SPARE_TIMEOUT_S: Final = 60.0


class Spares:
    """One spare at a time, with the codec of the model that is resident."""

    def __init__(self, start: Callable[[], Awaitable[WorkerProcess]], backoff_s: float) -> None:
        self._start = start
        self._backoff_s = backoff_s
        self.codec: CodecSpec | None = None
        self._spare: WorkerProcess | None = None
        self._spare_codec: CodecSpec | None = None
        self._spare_error: MoshidError | None = None
        self._spare_changed = asyncio.Condition()
        self._wake = asyncio.Event()

    @property
    def worker(self) -> WorkerProcess | None:
        """The spare, if it is there."""
        return self._spare if self._spare is not None and self._spare.alive else None

    def set_codec(self, codec: CodecSpec | None) -> None:
        """The spare prepares it in the background."""
        self.codec = codec
        self._wake.set()

    def forget(self) -> None:
        """There is none any more: its process is ended by whoever started it."""
        self._spare = None

    async def take(self, codec: CodecSpec | None) -> WorkerProcess:
        """The spare, ready with ``codec`` (None: any); another one is made behind it.

        Raises:
            AudioWorkerDied: none becomes ready.
            MoshidError: the codec cannot be built.
        """
        self._spare_error = None
        self._wake.set()
        try:
            async with asyncio.timeout(SPARE_TIMEOUT_S), self._spare_changed:
                await self._spare_changed.wait_for(
                    lambda: self._spare_error is not None or self._is_ready(codec)
                )
        except TimeoutError as e:
            raise AudioWorkerDied("no audio worker became ready in time") from e
        worker = self._spare
        if worker is None or not self._is_ready(codec):
            raise self._why_there_is_none()
        self._spare = None
        self._wake.set()
        return worker

    def _why_there_is_none(self) -> MoshidError:
        if self._spare_error is None or isinstance(self._spare_error, WorkerDied):
            return AudioWorkerDied(str(self._spare_error or "the audio worker died"))
        return self._spare_error

    def _is_ready(self, codec: CodecSpec | None) -> bool:
        alive = self._spare is not None and self._spare.alive
        return alive and (codec is None or self._spare_codec == codec)

    async def run(self) -> None:
        """Keep a spare ready until cancelled."""
        backoff = Backoff(self._backoff_s, SPARE_TRIES_MAX)
        while True:
            self._wake.clear()
            error = await self._make_ready()
            async with self._spare_changed:
                self._spare_error = error
                self._spare_changed.notify_all()
            if error is None:
                backoff.reset()
            else:
                log.warning("no audio worker is ready: %s", error.message)
                wait_s = backoff.next_s() if error.retryable else None
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
                    continue
            await self._spare_is_needed()

    async def _make_ready(self) -> MoshidError | None:
        """Start the spare if there is none, build its codec if that is not the model's."""
        try:
            if self._spare is None or not self._spare.alive:
                self._spare_codec = None
                self._spare = await self._start()
            codec = self.codec
            if codec is not None and codec != self._spare_codec:
                await self._spare.call("prepare", msgspec.to_builtins(Prepare(codec)))
                self._spare_codec = codec
        except MoshidError as e:
            return e
        return None

    async def _spare_is_needed(self) -> None:
        """Wait until the spare has been taken or has died, or the codec may have changed."""
        wake = asyncio.create_task(self._wake.wait())
        reasons: set[asyncio.Future[Any]] = {wake}
        if self._spare is not None and self._spare.alive:
            reasons.add(self._spare.exited)
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()
