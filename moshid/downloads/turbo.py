"""The profile turbo: whole files by hf-transfer, checked and entered in the ledger as they land.

Owns when that is done, and what becomes of what it brought. hf-transfer does not say which ranges
it has written: those are found by looking, since a partial file is zeros until then. What is taken
in stays suspect until the whole file's digest agrees; what is missing is left to the ordinary
connections, so a job never fails because hf-transfer did.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from moshid.downloads.allowance import Unlimited
from moshid.downloads.digests import chunk_hasher, hash_range
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.fetcher import Fetcher
from moshid.downloads.job import JobFile
from moshid.downloads.keeper import Keeper, Mark
from moshid.downloads.meter import Meter
from moshid.downloads.plan import Chunk
from moshid.downloads.profiles import Profile
from moshid.downloads.source import Link, Source
from moshid.downloads.turbo_child import RANGE_BYTES
from moshid.downloads.turbo_helper import HelperFailed, helper
from moshid.errors import DownloadNetwork

LOOK_S: Final = 0.5
"""How often what has landed is looked for."""

AHEAD_CHUNKS: Final = 8
"""Ranges are asked for in the file's order: after so many chunks without one, there are none."""

TAIL_BYTES: Final = 4096
TURN: Final = "turbo"
"""The lock (see Engine.locks) by which jobs take turns: one hf-transfer fills the line."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turbo:
    """Brings one blob in. ``files`` are the job's files that show it."""

    engine: Engine
    profile: Profile
    allowance: Unlimited
    meter: Meter
    files: Sequence[JobFile]
    source: Source
    partial: Partial
    keeper: Keeper

    @classmethod
    def beside(cls, f: Fetcher) -> Turbo:
        """For the blob that ``f`` fetches."""
        i = f.intake
        return cls(
            f.engine, f.profile, i.allowance, f.meter, f.files, f.source, i.partial, f.keeper
        )

    async def bring(self, work: deque[Chunk]) -> None:
        """Take out of ``work`` what has come; the rest is still to be fetched."""
        if not self.partial.created:
            self.meter.hold(self.files, await self._take_in(work, len(work)))
            self.meter.settle()
            await self.keeper.flush()
        why = unsuited(self.profile, self.partial.size, work, free=self.allowance.free)
        if why is not None:
            log.info("hf-transfer is not used", extra={"path": self.files[0].path, "why": why})
            return
        link = await self.source.link()
        async with self.engine.locks[TURN]:
            try:
                await self._run(link, work)
            except HelperFailed as e:
                log.warning("hf-transfer failed, others go on", extra={"why": str(e)})
                self.meter.setback(DownloadNetwork(f"hf-transfer: {e}"))
                await self.keeper.flush()  # the others go on after what is durable

    async def _run(self, link: Link, work: deque[Chunk]) -> None:
        """Let it fetch, and take in what lands."""
        counted = taken = 0
        loop = asyncio.get_running_loop()
        look_at_s = loop.time() + LOOK_S
        self.meter.job.connections += self.profile.connections_max
        try:
            async with helper(self.partial, link, self.profile) as ranges:
                async for written in ranges:
                    if not self.allowance.free:
                        raise HelperFailed("a limit is set, which does not reach it")
                    written = min(written, self.partial.size - counted)
                    counted += written
                    self.meter.arrived(self.files, written)
                    if loop.time() >= look_at_s:
                        taken += await self._take_in(work, AHEAD_CHUNKS)
                        look_at_s = loop.time() + LOOK_S
            taken += await self._take_in(work, len(work), whole=True)
        except HelperFailed:
            taken += await self._take_in(work, len(work))
            raise
        finally:
            self.meter.job.connections -= self.profile.connections_max
            self.meter.hold(self.files, taken - counted)

    async def _take_in(self, work: deque[Chunk], ahead: int, *, whole: bool = False) -> int:
        """Hash what has landed, and note it for the ledger; returns how many bytes. ``ahead``: give
        up after so many chunks of which nothing is there; ``whole``: all of it is said to be."""
        taken = absent = 0
        for chunk in list(work):
            have_bytes = chunk.size
            if not whole:
                have_bytes = await self.engine.on_disk(landed_bytes, self.partial.fd, chunk)
            absent = 0 if have_bytes else absent + 1
            if have_bytes > chunk.durable_bytes:
                taken += have_bytes - chunk.durable_bytes
                self.keeper.note(await self.engine.on_disk(self._mark, chunk, have_bytes))
            if have_bytes == chunk.size:
                work.remove(chunk)
            if absent >= ahead:
                break
        return taken

    def _mark(self, chunk: Chunk, have_bytes: int) -> Mark:
        hasher = chunk_hasher(chunk.digest_kind)
        hash_range(self.partial.fd, chunk.offset, chunk.offset + have_bytes, hasher)
        return Mark(chunk, have_bytes, hasher.digest())


def unsuited(profile: Profile, size: int, work: Collection[Chunk], *, free: bool) -> str | None:
    """Why hf-transfer is not to fetch a file of ``size`` bytes, of which ``work`` is missing; None:
    it may. It knows only whole files, and no limits: ``free``, there are none."""
    if profile.whole_from_bytes is None or size < profile.whole_from_bytes:
        return "the file is small"
    if sum(c.size for c in work) < size or any(c.durable_bytes for c in work):
        return "some of the file is there already"
    if not free:
        return "a limit is set, or the job has low priority"
    if importlib.util.find_spec("hf_transfer") is None:
        return "it is not installed"
    return None


def landed_bytes(fd: int, chunk: Chunk) -> int:
    """How much of the chunk's start hf-transfer has written: ranges of the file whose last bytes
    are not all zero. Blocking."""
    at, stop = chunk.offset, chunk.offset + chunk.size
    while at < stop:
        end = min(stop, (at // RANGE_BYTES + 1) * RANGE_BYTES)
        tail_bytes = min(TAIL_BYTES, end - at)
        if not any(os.pread(fd, tail_bytes, end - tail_bytes)):
            break
        at = end
    return at - chunk.offset
