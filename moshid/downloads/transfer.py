"""One blob's way from the Hub to a verified partial file: trust, fetch, whole digest, repair.

Owns the order of these steps for one digest; knows nothing of jobs besides their meter and of the
cache besides the partial file. Publication is the caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial as partial_of
from typing import Final

from moshid.downloads import plan
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.fetcher import Fetcher
from moshid.downloads.front import Front
from moshid.downloads.intake import Intake
from moshid.downloads.job import JobFile
from moshid.downloads.keeper import Keeper
from moshid.downloads.meter import Meter
from moshid.downloads.plan import Chunk
from moshid.downloads.profiles import Profile
from moshid.downloads.rescue import rescue
from moshid.downloads.route import Route
from moshid.downloads.source import Source
from moshid.downloads.states import FileState
from moshid.downloads.trust import Digests, Trust
from moshid.downloads.turbo import Turbo
from moshid.downloads.whole import WholeHash
from moshid.errors import DigestMismatch

DISK_FAULTS_MAX: Final = 5
"""So often may the disk differ from the ledger before it is not worth trying any more."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Transfer:
    """Brings one blob in. ``show``: told when the state of ``files`` changes."""

    engine: Engine
    profile: Profile
    route: Route
    meter: Meter
    source: Source
    files: Sequence[JobFile]
    show: Callable[[FileState], None]

    @property
    def etag(self) -> str:
        """The digest that the whole is to have."""
        return self.files[0].digest

    async def bring(self, partial: Partial) -> None:
        """Return when ``partial`` holds the right bytes, durably.

        Raises:
            DigestMismatch: it never agreed, however often it was fetched.
            MoshidError: the Hub says no, or the disk does.
        """
        trust = Trust(self.engine, self.meter, self.files, partial)
        chunk_bytes = plan.chunk_bytes_for(partial.size, self.profile.chunk_bytes)
        await trust.settle(chunk_bytes, self.profile.digest_kind)
        await rescue(trust, self.source, self.profile, self.show)
        missing, faults = plan.left(trust.chunks), 0
        while await self._round(trust, missing) != self.etag:
            log.warning("the whole file's digest is wrong", extra={"etag": self.etag})
            self.show(FileState.REPAIRING)
            missing = await trust.differing()
            if missing:
                faults += 1
                if faults > DISK_FAULTS_MAX:
                    name = self.files[0].path
                    raise DigestMismatch(f"the disk does not keep what is written: {name}")
                await trust.forget(missing)
            else:
                await self._doubt(trust)

    async def _doubt(self, trust: Trust) -> None:
        try:
            await trust.doubt(partial_of(self._again, trust), whole=self.source.in_one_piece)
        except DigestMismatch as e:
            givers = self.source.givers.names
            if (replaced := self.route.replaced) is not None:
                raise DigestMismatch(f"{e.message}: {replaced.message}", hint=e.hint) from e
            if len(givers) < 2:
                raise
            raise DigestMismatch(f"{e.message}, from {' or '.join(givers)}", hint=e.hint) from e

    async def _again(self, trust: Trust, suspects: Sequence[Chunk], before: Digests) -> None:
        """Fetch suspects by a new URL, of another endpoint if there is one."""
        self.source.givers.compare(before)
        self.source.expire()
        await self._fetch(trust, suspects)
        changed = [c.index for c in suspects if c.digest != before[c.index]]
        if (blame := self.source.givers.differed(changed)) is not None:
            self.source.expire()
            self.meter.setback(DigestMismatch(blame), trouble=False)

    async def _round(self, trust: Trust, missing: Sequence[Chunk]) -> str:
        """Fetch what is missing while the whole-file hash runs behind; the whole's hexdigest."""
        if missing:
            self.show(FileState.DOWNLOADING)
        return await self._fetch(trust, missing, whole=True)

    async def _fetch(self, trust: Trust, missing: Sequence[Chunk], whole: bool = False) -> str:
        at_first = self.profile.connections_start
        hashing = WholeHash(self.engine, trust, at_first) if whole else None
        keeper = self._keeper(trust, hashing.chunk_done if hashing else trust.count)
        fetcher = self._fetcher(trust, keeper, deque(missing), hashing.front if hashing else None)
        digest = ""
        try:
            async with asyncio.TaskGroup() as keeping:
                rounds = keeping.create_task(keeper.run())
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._bring_in(fetcher, whole))
                    if hashing:
                        digest = await hashing.run(keeper, self.show)
                for chunk in missing:
                    await keeper.done(chunk)
                rounds.cancel()
        finally:
            if hashing:
                hashing.close()
            await keeper.flush()
        return digest

    async def _bring_in(self, fetcher: Fetcher, whole: bool) -> None:
        """Chunk by chunk over many connections; from a server without ranges, in one stream. A
        ``whole`` file may be tried by hf-transfer first."""
        work = fetcher.work
        if whole and self.profile.whole_from_bytes is not None:
            await Turbo.beside(fetcher).bring(work)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.profile.workers if work else 0):
                group.create_task(fetcher.run())
        if work:
            await fetcher.fetch_in_one_piece(sorted(work, key=lambda c: c.offset))

    def _keeper(self, trust: Trust, on_done: Callable[[Chunk], None]) -> Keeper:
        return Keeper(
            self.engine,
            trust.key,
            trust.partial,
            self.profile.risk_bytes,
            self.meter.counters,
            on_done,
        )

    def _fetcher(
        self, trust: Trust, keeper: Keeper, work: deque[Chunk], front: Front | None
    ) -> Fetcher:
        profile, meter = self.profile, self.meter
        intake = Intake(
            self.engine,
            meter,
            self.files,
            trust.partial,
            keeper,
            self.route.gate.allowance,
            profile.hop_bytes,
            profile.siphon_bps,
            front,
        )
        return Fetcher(
            self.engine, profile, self.route, meter, self.files, self.source, keeper, intake, work
        )
