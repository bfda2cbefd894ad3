"""Uses bytes that are on this machine already: what others left of a blob, and what of its own
partial file no ledger knows. Owns the order look, compare, copy, hash, keep.

A source is only read, never locked or changed. What it gave is suspect until the whole file's
digest is right: ``suspects`` has it fetched again first.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from moshid.downloads import donors, plan, written
from moshid.downloads.cache import Cache
from moshid.downloads.digests import Hasher, file_matches, prefix_hasher
from moshid.downloads.donors import Donor, Part, Wanted
from moshid.downloads.ledger import Ledger
from moshid.downloads.plan import ByteRange, Chunk
from moshid.downloads.profiles import Profile
from moshid.downloads.source import Source
from moshid.downloads.spots import Spots
from moshid.downloads.states import FileState
from moshid.downloads.suspects import RESCUED
from moshid.downloads.trust import Trust

KEEP_BYTES: Final = 32 << 20
"""So much is copied, or hashed, before it is synced and recorded."""

SMALL_BYTES: Final = 16 << 20
"""A file of up to this size is hashed where it is rather than compared over the line."""

log = logging.getLogger(__name__)


class DonorFault(Exception):
    """A source cannot be read (any more)."""


async def rescue(
    trust: Trust, source: Source, profile: Profile, show: Callable[[FileState], None]
) -> None:
    """Bring into ``trust``'s partial file what need not be fetched."""
    work = Rescue(trust, source, profile)
    if trust.unread:
        show(FileState.VERIFYING)
        await work.adopt()
    refused: dict[Path, str] = {}
    used: set[Path] = set()
    for donor in await work.look() if plan.left(trust.chunks) else ():
        if work.gain(donor):
            show(FileState.VERIFYING)
            why = await work.use(donor)
            if why is None:
                used.add(donor.path)
            else:
                refused[donor.path] = why
    for path in refused.keys() - used:  # a folder may have been tried in several ways
        facts = {"path": str(path), "etag": trust.etag, "why": refused[path]}
        log.warning("a source is not used", extra=facts)


@dataclass(slots=True)
class Rescue:
    """The rescue of one blob."""

    trust: Trust
    source: Source
    profile: Profile

    async def adopt(self) -> None:
        """Rely on what the partial file itself holds, though no ledger tells."""
        partial = self.trust.partial
        own = Donor(partial.path, (Part(partial.path, 0, partial.size),))
        taken = await self._take(own, zeros=False)
        await self.trust.has_read()
        if taken:
            facts = {"etag": self.trust.etag, "bytes": taken}
            log.info("the partial file was read anew", extra=facts)

    async def look(self) -> list[Donor]:
        """What may have bytes of the blob, the likeliest first."""
        engine, job, files = self.trust.engine, self.trust.meter.job, self.trust.files
        wanted = Wanted(self.trust.etag, self.trust.partial.size, tuple(f.path for f in files))
        paths = [Path(p) for p in await engine.ledger.call(Ledger.sources, job.id)]
        found = await engine.on_disk(donors.named, paths, wanted)
        if isinstance(engine.shelf, Cache):
            blob = engine.shelf.blob(job.repo, wanted.etag)
            found += await engine.on_disk(donors.in_cache, engine.shelf.root, blob, wanted)
            folder = engine.shelf.repo_dir(job.repo)
            found += await engine.on_disk(donors.in_snapshots, folder, job.commit, wanted)
        return [d for d in dict.fromkeys(found) if not await engine.on_disk(self._is_own, d)]

    def gain(self, donor: Donor) -> int:
        """How many bytes the source may have that are missing, at most."""
        return sum(
            max(0, min(p.offset + p.size, c.range.stop) - max(p.offset, c.offset + c.durable_bytes))
            for c in plan.left(self.trust.chunks)
            for p in donor.parts
        )

    async def use(self, donor: Donor) -> str | None:
        """Take what is missing and the source has, or say why not."""
        try:
            small = donor.whole and donor.parts[0].size <= SMALL_BYTES
            right = small and await self._is_right(donor)
            agrees = right or await self._compare(donor)
            if agrees is False:
                return "it has other bytes"
            if agrees is None:
                right = donor.whole and not small and await self._is_right(donor)
                if not right:
                    return "it cannot be compared with the server's bytes"
            taken = await self._take(donor, zeros=right)
            if donor.whole and not right and self.gain(donor) and await self._is_right(donor):
                taken += await self._take(donor, zeros=True)
        except DonorFault as e:
            return str(e)
        facts = {"path": str(donor.path), "etag": self.trust.etag, "bytes": taken}
        log.info("a source was used", extra=facts)
        return None

    async def _compare(self, donor: Donor) -> bool | None:
        """Whether the server has the same bytes. A whole file is not waited for: its digest tells
        without a line."""
        trust = self.trust
        spots = Spots(trust.engine, trust.meter, self.source, self.profile, trust.partial.size)
        stretches = [ByteRange(p.offset, p.offset + p.size) for p in donor.parts]
        with suppress(TimeoutError):
            async with asyncio.timeout(self.profile.stall_timeout_s if donor.whole else None):
                return await spots.agree(stretches, lambda a, b: _read(donor, a, b, zeros=False))
        return None

    async def _is_right(self, donor: Donor) -> bool:
        size = self.trust.partial.size
        return await self.trust.engine.on_disk(_matches, donor.path, self.trust.etag, size)

    async def _take(self, donor: Donor, *, zeros: bool) -> int:
        """Copy and hash chunk after chunk; what is copied is kept now and then, and at the end.
        Returns how many bytes."""
        rows: list[Chunk] = []
        taken = fresh = 0
        for chunk in plan.left(self.trust.chunks):
            hasher = await self.trust.engine.on_disk(prefix_hasher, self.trust.partial.fd, chunk)
            have = chunk.durable_bytes
            while hasher is not None and have < chunk.size:
                at, stop = chunk.offset + have, chunk.range.stop
                work = (donor, at, stop, hasher, zeros)
                if not (count := await self.trust.engine.on_disk(self._copy, *work)):
                    break
                have, taken, fresh = have + count, taken + count, fresh + count
                if fresh >= KEEP_BYTES:
                    await self._keep([*rows, _row(chunk, have, hasher)], donor)
                    rows, fresh = [], 0
            if hasher is not None and have > chunk.durable_bytes:
                rows.append(_row(chunk, have, hasher))
        await self._keep(rows, donor)
        return taken

    async def _keep(self, rows: list[Chunk], donor: Donor) -> None:
        await self.trust.keep(rows, rescued=donor.path != self.trust.partial.path)

    def _copy(self, donor: Donor, at: int, stop: int, hasher: Hasher, zeros: bool) -> int:
        partial = self.trust.partial
        found = _read(donor, at, stop, zeros=zeros)
        if found and donor.path != partial.path:
            partial.write(at, [found])
        hasher.update(found)
        return len(found)

    def _is_own(self, donor: Donor) -> bool:
        """Whether the source is the partial file itself, perhaps by another name."""
        own = os.fstat(self.trust.partial.fd)
        with suppress(OSError):
            return any(os.path.samestat(p.path.stat(), own) for p in donor.parts)
        return False


def _row(chunk: Chunk, have_bytes: int, hasher: Hasher) -> Chunk:
    """The chunk as it is once its first ``have_bytes`` are durable."""
    done = have_bytes == chunk.size
    return replace(
        chunk,
        durable_bytes=have_bytes,
        digest=hasher.copy().digest(),
        done=done,
        suspicion=max(chunk.suspicion, RESCUED + (not done)),
    )


def _read(donor: Donor, at: int, stop: int, *, zeros: bool) -> bytes:
    """What the source has from ``at`` on, as far as one read goes. Blocking."""
    part = donor.part_at(at)
    if part is None:
        return b""
    start, end = at - part.offset, min(stop - part.offset, part.size)
    try:
        fd = written.open_source(part.path)
        try:
            return written.read(fd, start, end, zeros=zeros)
        finally:
            os.close(fd)
    except OSError as e:
        raise DonorFault(e.strerror or str(e)) from e


def _matches(path: Path, etag: str, size: int) -> bool:
    try:
        return file_matches(path, etag, size)
    except OSError as e:
        raise DonorFault(e.strerror or str(e)) from e
