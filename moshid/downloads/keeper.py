"""Makes arrived bytes durable: written → synced → in the ledger, never the other way round.

Owns the group commit: what all connections have written since the last round goes down with one
sync and one transaction. The ledger never says more than the disk holds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.ledger import Counters, Ledger
from moshid.downloads.plan import Chunk

ROUND_S: Final = 5.0
"""On a slow line, a segment may take minutes: what there is goes down at least so often."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The first ``have_bytes`` of a chunk are written, and have this SHA-256."""

    chunk: Chunk
    have_bytes: int
    digest: bytes


class Keeper:
    """The durable progress of one partial file."""

    def __init__(
        self,
        engine: Engine,
        etag: str,
        partial: Partial,
        segment_bytes: int,
        counters: Callable[[], Counters],
        on_done: Callable[[Chunk], None],
    ) -> None:
        self._engine = engine
        self._etag = etag
        self._partial = partial
        self._segment_bytes = segment_bytes
        self._counters = counters
        self._on_done = on_done
        self._marks: dict[int, Mark] = {}
        self._wake = asyncio.Event()
        self._kept = asyncio.Condition()

    def note(self, mark: Mark) -> None:
        """Bytes have been written. Returns at once; they become durable in a later round."""
        self._marks[mark.chunk.index] = mark
        fresh = mark.have_bytes - mark.chunk.durable_bytes
        if fresh >= self._segment_bytes or mark.have_bytes == mark.chunk.size:
            self._wake.set()

    async def room(self, chunk: Chunk, have_bytes: int) -> None:
        """Wait until no more than two segments of the chunk are at risk."""
        limit = 2 * self._segment_bytes
        if have_bytes - chunk.durable_bytes >= limit:
            async with self._kept:
                await self._kept.wait_for(lambda: have_bytes - chunk.durable_bytes < limit)

    async def done(self, chunk: Chunk) -> None:
        """Wait until the whole chunk is durable."""
        async with self._kept:
            await self._kept.wait_for(lambda: chunk.done)

    async def run(self) -> None:
        """Round after round, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """One round: sync, then commit, then tell."""
        marks, self._marks = self._marks, {}
        if not marks:
            return
        try:
            await self._engine.on_disk(self._partial.sync)
            kept = [_after(m) for m in marks.values()]
            await self._engine.ledger.call(Ledger.record, self._etag, kept, [self._counters()])
        except BaseException:
            self._marks = marks | self._marks
            raise
        async with self._kept:
            for mark, row in zip(marks.values(), kept, strict=True):
                self._adopt(mark.chunk, row)
            self._kept.notify_all()

    def _adopt(self, chunk: Chunk, row: Chunk) -> None:
        chunk.durable_bytes, chunk.digest, chunk.done = row.durable_bytes, row.digest, row.done
        if chunk.done:
            self._on_done(chunk)


def _after(mark: Mark) -> Chunk:
    """The chunk as the ledger will have it; the chunk itself changes only after the commit."""
    c = mark.chunk
    done = mark.have_bytes == c.size
    return Chunk(c.index, c.offset, c.size, mark.have_bytes, mark.digest, done, c.suspicion)
