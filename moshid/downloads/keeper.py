"""Makes arrived bytes durable: written → synced → in the ledger, never the other way round.

Owns the group commit: what all connections have written since the last round goes down with one
sync and one transaction. The ledger never says more than the disk holds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.ledger import Counters, Ledger
from moshid.downloads.plan import Chunk
from moshid.errors import MoshidError

ROUND_S: Final = 5.0
"""On a slow line, a segment may take minutes: what there is goes down at least so often."""

ROUNDS_A_RISK: Final = 3
"""A round begins when a connection has put a third of what it may at risk: the rest comes in while
the disk syncs."""

ROUNDS_APART_S: Final = 0.02
"""Rounds begin no nearer to each other, unless a connection waits for one: each costs a sync, a
transaction and four threads' turns, however little it keeps."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The first ``have_bytes`` of a chunk are written, and have this digest."""

    chunk: Chunk
    have_bytes: int
    digest: bytes


class Keeper:
    """The durable progress of one partial file; a connection puts up to ``risk_bytes`` at risk, and
    a hop more."""

    def __init__(
        self,
        engine: Engine,
        etag: str,
        partial: Partial,
        risk_bytes: int,
        counters: Callable[[], Counters],
        on_done: Callable[[Chunk], None],
    ) -> None:
        self._engine = engine
        self._etag = etag
        self._partial = partial
        self._risk_bytes = risk_bytes
        self._counters = counters
        self._on_done = on_done
        self._marks: dict[int, Mark] = {}
        self._lost = False
        """A sync failed. The system tells that once and takes the pages for written: a second one
        that succeeds says nothing of them, so nothing more is recorded."""
        self._wake = asyncio.Event()
        self._awaited = asyncio.Event()
        self._kept = asyncio.Condition()

    def note(self, mark: Mark) -> None:
        """Bytes have been written. Returns at once; they become durable in a later round."""
        self._marks[mark.chunk.index] = mark
        fresh = mark.have_bytes - mark.chunk.durable_bytes
        if fresh >= self._risk_bytes // ROUNDS_A_RISK or mark.have_bytes == mark.chunk.size:
            self._wake.set()

    def is_full(self, chunk: Chunk, have_bytes: int) -> bool:
        """Whether one more hop might put more of the chunk at risk than a kill may cost."""
        return have_bytes - chunk.durable_bytes > self._risk_bytes

    async def room(self, chunk: Chunk, have_bytes: int) -> None:
        """Wait until it is not."""
        if self.is_full(chunk, have_bytes):
            self._awaited.set()
        async with self._kept:
            await self._kept.wait_for(lambda: not self.is_full(chunk, have_bytes))

    async def done(self, chunk: Chunk) -> None:
        """Wait until the whole chunk is durable."""
        async with self._kept:
            await self._kept.wait_for(lambda: chunk.done)

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            await _within(ROUND_S, self._wake)
            self._wake.clear()
            self._awaited.clear()
            await self.flush()
            await _within(ROUNDS_APART_S, self._awaited)

    async def flush(self) -> None:
        """One round: sync, then commit, then tell."""
        marks, self._marks = self._marks, {}
        if not marks or self._lost:
            return
        try:
            in_place = await self._engine.on_disk(self._partial.sync)
        except MoshidError:
            self._lost = True
            raise
        except BaseException:
            self._marks = marks | self._marks
            raise
        try:
            kept = [_after(m) for m in marks.values()]
            await self._engine.ledger.call(Ledger.record, self._etag, kept, [self._counters()])
        except BaseException:
            self._marks = marks | self._marks
            raise
        async with self._kept:
            for mark, row in zip(marks.values(), kept, strict=True):
                self._adopt(mark.chunk, row)
            self._kept.notify_all()
        if not in_place:  # what is kept is so in a file that may come back, as its folder may
            await self._engine.on_disk(self._partial.check_place)

    def _adopt(self, chunk: Chunk, row: Chunk) -> None:
        was_done = chunk.done
        chunk.durable_bytes, chunk.digest, chunk.done = row.durable_bytes, row.digest, row.done
        if chunk.done and not was_done:
            self._on_done(chunk)


async def _within(most_s: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            await event.wait()


def _after(mark: Mark) -> Chunk:
    """The chunk as the ledger will have it; the chunk itself changes only after the commit."""
    c = mark.chunk
    done = mark.have_bytes == c.size
    return replace(c, durable_bytes=mark.have_bytes, digest=mark.digest, done=done)
