"""One blob's way from the Hub to a verified partial file: trust, fetch, whole digest, repair.

Owns the order of these steps for one digest; knows nothing of jobs besides their meter and of the
cache besides the partial file. Publication is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from moshid.downloads import plan
from moshid.downloads.digests import hash_range, sha256_of, whole_hasher
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.fetcher import Fetcher
from moshid.downloads.job import JobFile
from moshid.downloads.keeper import Keeper
from moshid.downloads.ledger import Blob, Ledger
from moshid.downloads.meter import Meter
from moshid.downloads.pace import Gate
from moshid.downloads.plan import Chunk
from moshid.downloads.profiles import Profile
from moshid.downloads.source import Source
from moshid.downloads.states import FileState
from moshid.errors import DigestMismatch

DISK_FAULTS_MAX: Final = 5
"""So often may the disk differ from the ledger before it is not worth trying any more."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Transfer:
    """Brings one blob in. ``show``: told when the state of ``files`` changes."""

    engine: Engine
    profile: Profile
    gate: Gate
    meter: Meter
    source: Source
    files: Sequence[JobFile]
    show: Callable[[FileState], None]
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def etag(self) -> str:
        """The digest that the whole is to have."""
        return self.files[0].digest

    @property
    def key(self) -> str:
        """By what the ledger knows the partial file."""
        return self.engine.shelf.key(self.etag)

    async def bring(self, partial: Partial) -> None:
        """Return when ``partial`` holds the right bytes, durably.

        Raises:
            DigestMismatch: it never agreed, however often it was fetched.
            MoshidError: the Hub says no, or the disk does.
        """
        self.chunks = await self._trusted(partial)
        missing, faults, tried, passes = plan.left(self.chunks), 0, set[int](), 1
        while True:
            if await self._round(partial, missing) == self.etag:
                return
            log.warning("the whole file's digest is wrong", extra={"etag": self.etag})
            self.show(FileState.REPAIRING)
            missing = await self._differing(partial)
            if missing:
                faults += 1
                if faults > DISK_FAULTS_MAX:
                    raise DigestMismatch(f"the disk does not keep what is written: {self._name()}")
                await self._forget(missing)
                continue
            missing, passes = await self._next_suspects(partial, tried, passes)

    async def _next_suspects(
        self, partial: Partial, tried: set[int], passes: int
    ) -> tuple[list[Chunk], int]:
        """Fetch suspects again, over a new URL, until some chunk comes out otherwise than before.
        Then nothing is missing, and the whole is worth another look."""
        while True:
            at_least = len(self.chunks) if self.source.in_one_piece else plan.SUSPECTS_MIN
            suspects = plan.suspects(self.chunks, tried, at_least)
            if not suspects:
                passes += 1
                if passes > self.engine.shelf.doubts_max:
                    raise DigestMismatch(
                        f"{self._name()} never arrives with the right digest, however often",
                        hint=self.engine.shelf.mismatch_hint,
                    )
                tried.clear()
                continue
            tried |= {c.index for c in suspects}
            before = {c.index: c.digest for c in suspects}
            self.source.expire()
            await self._forget(suspects)
            await self._fetch(partial, suspects)
            changed = sum(before[c.index] != c.digest for c in suspects)
            self.meter.corrupt(changed)
            if changed:
                return [], passes

    async def _round(self, partial: Partial, missing: Sequence[Chunk]) -> str:
        """Fetch what is missing while the whole-file hash runs behind; the whole's hexdigest."""
        if missing:
            self.show(FileState.DOWNLOADING)
        return await self._fetch(partial, missing, whole=True)

    async def _fetch(self, partial: Partial, missing: Sequence[Chunk], whole: bool = False) -> str:
        keeper = self._keeper(partial)
        fetcher = Fetcher(
            self.engine,
            self.profile,
            self.gate,
            self.meter,
            self.files,
            self.source,
            partial,
            keeper,
        )
        work = deque(missing)
        try:
            async with asyncio.TaskGroup() as keeping:
                rounds = keeping.create_task(keeper.run())
                async with asyncio.TaskGroup() as group:
                    hashing = group.create_task(self._hash(partial, keeper)) if whole else None
                    group.create_task(self._bring_in(fetcher, work))
                for chunk in missing:
                    await keeper.done(chunk)
                rounds.cancel()
        finally:
            await keeper.flush()
        return hashing.result() if hashing else ""

    async def _bring_in(self, fetcher: Fetcher, work: deque[Chunk]) -> None:
        """Chunk by chunk over many connections; from a server without ranges, in one stream."""
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.profile.connections_max, len(work))):
                group.create_task(_work(fetcher, work))
        if work:
            await fetcher.fetch(*sorted(work, key=lambda c: c.offset), in_one_piece=True)

    async def _hash(self, partial: Partial, keeper: Keeper) -> str:
        """The whole-file hash, right behind the contiguous front."""
        hasher = whole_hasher(self.etag, partial.size)
        for chunk in self.chunks:
            await keeper.done(chunk)
            if all(c.done for c in self.chunks):
                self.show(FileState.VERIFYING)
            start, stop = chunk.range.start, chunk.range.stop
            await self.engine.on_disk(hash_range, partial.fd, start, stop, hasher)
        return hasher.hexdigest()

    def _keeper(self, partial: Partial) -> Keeper:
        return Keeper(
            self.engine,
            self.key,
            partial,
            self.profile.segment_bytes,
            self.meter.counters,
            self._count_chunks,
        )

    def _count_chunks(self, _chunk: Chunk | None = None) -> None:
        done = sum(c.done for c in self.chunks)
        for file in self.files:
            file.chunks_total, file.chunks_done = len(self.chunks), done

    async def _trusted(self, partial: Partial) -> list[Chunk]:
        """The plan, with what of the partial file may be relied upon. What was written before the
        machine started anew, or in another file than this, is read and hashed first."""
        ledger, key = self.engine.ledger, self.key
        blob = await ledger.call(Ledger.blob, key)
        if blob is None or partial.created or blob.size != partial.size:
            await ledger.call(Ledger.forget_blob, key)
            blob = None
        device, inode = await self.engine.on_disk(partial.identity)
        chunk_bytes = blob.chunk_bytes if blob else self.profile.chunk_bytes
        now = Blob(key, partial.size, chunk_bytes, self.engine.boot_id, device, inode)
        self.chunks = await ledger.call(Ledger.chunks, key) if blob else []
        self.chunks = self.chunks or plan.split(partial.size, chunk_bytes)
        held = plan.bytes_done(self.chunks) - self.files[0].bytes_done
        self.meter.hold(self.files, held)
        self.meter.settle()
        if blob is not None and (blob != now or not self.engine.boot_id):
            await self._forget(await self._differing(partial))
        await ledger.call(Ledger.set_blob, now)
        self._count_chunks()
        return self.chunks

    async def _differing(self, partial: Partial) -> list[Chunk]:
        """The done chunks that are not on disk what the ledger knows them to be."""
        differing = []
        for chunk in (c for c in self.chunks if c.done):
            start, stop = chunk.range.start, chunk.range.stop
            found = await self.engine.on_disk(sha256_of, partial.fd, start, stop)
            if found != chunk.digest:
                differing.append(chunk)
        self.meter.corrupt(len(differing))
        return differing

    async def _forget(self, chunks: Sequence[Chunk]) -> None:
        """Strike chunks from the ledger; they are to be fetched again."""
        self.meter.hold(self.files, -plan.bytes_done(chunks))
        for chunk in chunks:
            chunk.forget()
        counters = [self.meter.counters()]
        await self.engine.ledger.call(Ledger.record, self.key, chunks, counters)
        self._count_chunks()

    def _name(self) -> str:
        return self.files[0].path


async def _work(fetcher: Fetcher, work: deque[Chunk]) -> None:
    """One connection: chunk after chunk, in the file's order."""
    while work and not fetcher.source.in_one_piece:
        chunk = work.popleft()
        if not await fetcher.fetch(chunk):
            work.append(chunk)
