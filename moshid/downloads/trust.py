"""What of a blob's partial file may be relied upon, and which bytes to doubt when it is wrong.

Owns the blob's chunks as they are known to be, and the order in which they are doubted; fetches
nothing itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from moshid.downloads import plan
from moshid.downloads.digests import digest_of
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.job import JobFile
from moshid.downloads.ledger import Blob, Ledger
from moshid.downloads.meter import Meter
from moshid.downloads.plan import Chunk
from moshid.downloads.suspects import RESCUED, next_suspects
from moshid.errors import DigestMismatch

UNREAD: Final = "unread:"
"""Before a blob's key, in the ledger's memory: reading its partial file has begun."""

Digests = Mapping[int, bytes | None]
"""By a chunk's index, what it had been before it was fetched again."""


@dataclass(slots=True)
class Trust:
    """The trust in one partial file. ``files``: the job's files that show the blob."""

    engine: Engine
    meter: Meter
    files: Sequence[JobFile]
    partial: Partial
    chunks: list[Chunk] = field(default_factory=list)
    unread: bool = False
    """The partial file holds more than the ledger knows: it is to be read."""
    _tried: set[int] = field(default_factory=set)
    _passes: int = 1
    _done: int = 0

    @property
    def etag(self) -> str:
        """The digest that the whole is to have."""
        return self.files[0].digest

    @property
    def key(self) -> str:
        """By what the ledger knows the partial file."""
        return self.engine.shelf.key(self.etag)

    async def settle(self, chunk_bytes: int, digest_kind: str) -> None:
        """Make the plan, with what of the partial file may be relied upon; a new one has chunks of
        ``chunk_bytes`` and digests of that kind; one of which something is there stays. What was
        written before the machine started anew, or in another file than this, is read and hashed
        first."""
        ledger, key, partial = self.engine.ledger, self.key, self.partial
        blob = await ledger.call(Ledger.blob, key)
        begun = await ledger.call(Ledger.meta, UNREAD + key) is not None
        self.unread = (blob is None or begun) and not partial.created
        if self.unread != begun:
            note = Ledger.set_meta if self.unread else Ledger.forget_meta
            await ledger.call(note, UNREAD + key)
        self.chunks = await ledger.call(Ledger.chunks, key) if blob else []
        nothing = partial.created or not plan.bytes_done(self.chunks)
        if blob is None or nothing or blob.size != partial.size:
            await ledger.call(Ledger.forget_blob, key)
            blob, self.chunks = None, []
        device, inode = await self.engine.on_disk(partial.identity)
        if blob is not None:
            chunk_bytes, digest_kind = blob.chunk_bytes, blob.digest_kind
        now = Blob(key, partial.size, chunk_bytes, self.engine.boot_id, device, inode, digest_kind)
        self.chunks = self.chunks or plan.split(*now.plan)
        held = plan.bytes_done(self.chunks) - self.files[0].bytes_done
        self.meter.hold(self.files, held)
        self.meter.settle()
        if blob is not None and (blob != now or not self.engine.boot_id):
            await self.forget(await self.differing())
        await ledger.call(Ledger.set_blob, now)
        self.count()

    async def has_read(self) -> None:
        """All that the partial file holds is known now."""
        self.unread = False
        await self.engine.ledger.call(Ledger.forget_meta, UNREAD + self.key)

    async def keep(self, rows: Sequence[Chunk], *, rescued: bool) -> None:
        """Rely on bytes that were written without being fetched: sync, then record, then tell.
        ``rows``: the chunks as they are then; ``rescued``: they came from elsewhere."""
        if not rows:
            return
        await self.engine.on_disk(self.partial.sync)
        gained = plan.bytes_done(rows) - sum(self.chunks[r.index].durable_bytes for r in rows)
        self.meter.hold(self.files, gained)
        if rescued:
            self.meter.rescued(gained * len(self.files))
        else:
            self.meter.settle()
        await self.engine.ledger.call(Ledger.record, self.key, rows, [self.meter.counters()])
        for row in rows:
            self.chunks[row.index].become(row)
        self.count()

    async def differing(self) -> list[Chunk]:
        """The done chunks that are not on disk what the ledger knows them to be."""
        differing = []
        for chunk in (c for c in self.chunks if c.done):
            if await self.engine.on_disk(digest_of, self.partial.fd, chunk) != chunk.digest:
                differing.append(chunk)
        self.meter.corrupt(len(differing))
        return differing

    async def forget(self, chunks: Sequence[Chunk]) -> None:
        """Strike chunks from the ledger; they are to be fetched again."""
        self.meter.hold(self.files, -plan.bytes_done(chunks))
        for chunk in chunks:
            chunk.forget()
        counters = [self.meter.counters()]
        await self.engine.ledger.call(Ledger.record, self.key, chunks, counters)
        self.count()

    async def doubt(
        self, again: Callable[[Sequence[Chunk], Digests], Awaitable[None]], *, whole: bool
    ) -> None:
        """Have suspects fetched ``again`` until some chunk comes out otherwise than before: then
        the whole is worth another look. ``whole``: the server gives nothing less.

        Raises:
            DigestMismatch: all were fetched again, and again, and nothing changed.
        """
        changed = 0
        while not changed:
            suspects = self.chunks if whole else next_suspects(self.chunks, self._tried)
            suspects = [c for c in suspects if c.index not in self._tried]
            if not suspects:
                self._begin_pass()
                continue
            self._tried |= {c.index for c in suspects}
            before = {c.index: c.digest for c in suspects}
            for chunk in suspects:  # from now on it is the server's word
                chunk.suspicion = chunk.suspicion if chunk.suspicion < RESCUED else 0
            await self.forget(suspects)
            await again(suspects, before)
            changed = sum(before[c.index] != c.digest for c in suspects)
            self.meter.corrupt(changed)

    def _begin_pass(self) -> None:
        self._passes += 1
        if self._passes > self.engine.shelf.doubts_max:
            raise DigestMismatch(
                f"{self.files[0].path} never arrives with the right digest, however often",
                hint=self.engine.shelf.mismatch_hint,
            )
        self._tried.clear()

    @property
    def complete(self) -> bool:
        """All chunks are done."""
        return self._done == len(self.chunks)

    def count(self, one_more: Chunk | None = None) -> None:
        """Show in the files how many chunks are done; ``one_more`` than before, or as they are."""
        self._done = self._done + 1 if one_more else sum(c.done for c in self.chunks)
        for file in self.files:
            file.chunks_total, file.chunks_done = len(self.chunks), self._done
