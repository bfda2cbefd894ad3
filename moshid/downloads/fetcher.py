"""Fetches chunks over HTTP: ranged GET, exact answer, write and hash, again after any setback.

Owns attempts and their endings. A cut, a stall or a wrong answer costs the attempt, never the job,
and never the bytes that had arrived; only a real answer of the Hub ends the job.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from yarl import URL

from moshid.downloads.answers import Verdict, judge
from moshid.downloads.backoff import Backoff
from moshid.downloads.digests import Hasher, hash_range
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.job import JobFile
from moshid.downloads.keeper import Keeper, Mark
from moshid.downloads.meter import Meter
from moshid.downloads.pace import Gate
from moshid.downloads.plan import ByteRange, Chunk
from moshid.downloads.profiles import Profile
from moshid.downloads.source import Link, Source
from moshid.errors import DownloadNetwork

BATCH_BYTES: Final = 1 << 20
"""So much is gathered before a thread writes and hashes it."""

DRIP_BYTES: Final = 4096
"""Less than this within the stall time-out is no progress: a drip is a stall."""

log = logging.getLogger(__name__)


class Setback(Exception):
    """An attempt failed; ``wait_s``: the server asked for so much patience."""

    def __init__(self, reason: str, *, wait_s: float | None = None, trouble: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.trouble = trouble


@dataclass(slots=True)
class Arrival:
    """A chunk on its way: its first ``have_bytes`` are written and hashed."""

    chunk: Chunk
    have_bytes: int = 0
    hasher: Hasher = field(default_factory=hashlib.sha256)

    @property
    def at(self) -> int:
        """Where in the file the next byte belongs."""
        return self.chunk.offset + self.have_bytes

    @property
    def complete(self) -> bool:
        """All bytes are written."""
        return self.have_bytes == self.chunk.size

    def mark(self) -> Mark:
        """How far the chunk is."""
        return Mark(self.chunk, self.have_bytes, self.hasher.copy().digest())


@dataclass(frozen=True, slots=True)
class Body:
    """An answer's body. ``ends``: where the chunk ends that is wanted of it, by its Content-Length;
    then its pieces are taken as they come, which saves joining them."""

    content: aiohttp.StreamReader
    ends: bool

    async def read(self, most_bytes: int) -> bytes:
        """The next piece, of no more than that; empty at the end."""
        if self.ends:
            return (await self.content.readchunk())[0]
        return await self.content.read(most_bytes)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches chunks of one blob. ``files`` are the job's files that show this blob."""

    engine: Engine
    profile: Profile
    gate: Gate
    meter: Meter
    files: Sequence[JobFile]
    source: Source
    partial: Partial
    keeper: Keeper

    async def fetch(self, *chunks: Chunk, in_one_piece: bool = False) -> bool:
        """Bring the chunks in whole, by one GET where the line allows; their last bytes become
        durable a moment later. False, unless ``in_one_piece``: the server knows no ranges.

        Raises:
            MoshidError: the Hub says no, or the disk does.
        """
        arrivals = [await self._resume(c) for c in chunks]
        profile = self.profile
        backoff = Backoff(profile.retry_first_s, profile.retry_max_s, self.engine.rng)
        while missing := [a for a in arrivals if not a.complete]:
            before = sum(a.have_bytes for a in missing)
            try:
                link = await self.source.link()
                async with self.gate.slot():
                    await self._attempt(missing, link, in_one_piece)
            except Setback as e:
                if self.source.in_one_piece and not in_one_piece:
                    return False
                broken = next((a for a in missing if not a.complete), missing[-1])
                broken.chunk.suspicion += e.trouble
                self.meter.setback(DownloadNetwork(e.reason), trouble=e.trouble)
                if sum(a.have_bytes for a in missing) > before:
                    backoff.reset()
                await self._wait(e, backoff)
        return True

    async def _resume(self, chunk: Chunk) -> Arrival:
        """Go on after the durable prefix, if it still has the digest that the ledger knows."""
        arrival = Arrival(chunk)
        if not chunk.durable_bytes:
            return arrival
        start, stop = chunk.offset, chunk.offset + chunk.durable_bytes
        await self.engine.on_disk(hash_range, self.partial.fd, start, stop, arrival.hasher)
        if arrival.hasher.copy().digest() == chunk.digest:
            arrival.have_bytes = chunk.durable_bytes
            return arrival
        self.meter.corrupt(1)
        self.meter.hold(self.files, -chunk.durable_bytes)
        chunk.forget()
        return Arrival(chunk)

    async def _wait(self, setback: Setback, backoff: Backoff) -> None:
        wait_s = backoff.next_s()
        if setback.wait_s is not None:
            self.gate.hold(setback.wait_s)
        log.info("trying again", extra={"why": setback.reason, "wait_s": round(wait_s, 2)})
        await asyncio.sleep(wait_s)

    async def _attempt(self, arrivals: Sequence[Arrival], link: Link, in_one_piece: bool) -> None:
        """One GET of what is left of the chunks; ``in_one_piece``: out of the whole file, if need
        be.

        Raises:
            Setback: it did not bring all of it.
        """
        try:
            async with asyncio.timeout(self.profile.stall_timeout_s) as watchdog:
                await self._get(arrivals, link, in_one_piece, watchdog)
        except TimeoutError as e:
            raise Setback("the line stalled") from e
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise Setback(f"the line broke ({type(e).__name__})") from e

    async def _get(
        self,
        arrivals: Sequence[Arrival],
        link: Link,
        in_one_piece: bool,
        watchdog: asyncio.Timeout,
    ) -> None:
        want = ByteRange(arrivals[0].at, arrivals[-1].chunk.range.stop)
        headers = link.headers | {"Range": want.header}
        url = URL(link.url, encoded=True)
        async with self.engine.session.get(url, headers=headers, max_redirects=5) as answer:
            verdict = judge(answer.status, answer.headers, want, self.partial.size)
            if verdict.verdict in (Verdict.TAKE, Verdict.WHOLE):
                self.source.gave(whole=verdict.verdict is Verdict.WHOLE)
            if verdict.verdict is Verdict.TAKE:
                told = "Content-Length" in (h := answer.headers) and "Transfer-Encoding" not in h
                body = Body(answer.content, ends=told and len(arrivals) == 1)
                await self._take(arrivals, body, want.start, watchdog)
            elif verdict.verdict is Verdict.WHOLE and in_one_piece:
                await self._take(arrivals, Body(answer.content, ends=False), 0, watchdog)
            else:
                answer.close()
                if verdict.verdict is Verdict.RENEW:
                    self.source.expire(link)
                trouble = verdict.verdict not in (Verdict.RENEW, Verdict.WHOLE)
                raise Setback(verdict.reason, wait_s=verdict.wait_s, trouble=trouble)

    async def _take(
        self,
        arrivals: Sequence[Arrival],
        body: Body,
        at: int,
        watchdog: asyncio.Timeout,
    ) -> None:
        """Take the chunks, one after the other, out of a body that begins at ``at`` of the file."""
        self.meter.job.connections += 1
        try:
            for arrival in arrivals:
                await self._skip(body, arrival.at - at, watchdog)
                await self._receive(arrival, body, watchdog)
                if not arrival.complete:
                    raise Setback("the answer ended early")
                at = arrival.at
        finally:
            self.meter.job.connections -= 1

    async def _skip(self, body: Body, count_bytes: int, watchdog: asyncio.Timeout) -> None:
        """Let bytes pass that are there already."""
        loop = asyncio.get_running_loop()
        while count_bytes > 0:
            watchdog.reschedule(loop.time() + self.profile.stall_timeout_s)
            piece = await body.read(min(count_bytes, BATCH_BYTES))
            if not piece:
                raise Setback("the answer ended early")
            count_bytes -= len(piece)
            self.meter.skipped(len(piece))

    async def _receive(self, arrival: Arrival, body: Body, watchdog: asyncio.Timeout) -> None:
        """Take a chunk, batch by batch; what has arrived is kept, whatever ends the attempt."""
        loop, stall_s = asyncio.get_running_loop(), self.profile.stall_timeout_s
        left = arrival.chunk.size - arrival.have_bytes
        batch: list[bytes] = []
        size = fresh = 0
        watchdog.reschedule(loop.time() + stall_s)
        try:
            while left > size and (piece := await body.read(left - size)):
                batch.append(piece)
                size += len(piece)
                fresh += len(piece)
                if fresh >= DRIP_BYTES:
                    watchdog.reschedule(loop.time() + stall_s)
                    fresh = 0
                if size >= BATCH_BYTES:
                    watchdog.reschedule(None)
                    full, batch = batch, []
                    left, size = left - size, 0
                    await self._store(arrival, full)
                    await self.keeper.room(arrival.chunk, arrival.have_bytes)
                    watchdog.reschedule(loop.time() + stall_s)
        finally:
            if not watchdog.expired():
                watchdog.reschedule(None)
            if batch:
                await self._store(arrival, batch)

    async def _store(self, arrival: Arrival, batch: list[bytes]) -> None:
        before = arrival.have_bytes
        try:
            await self.engine.on_disk(self._write, arrival, batch)
        finally:
            self.meter.arrived(self.files, arrival.have_bytes - before)
            self.keeper.note(arrival.mark())

    def _write(self, arrival: Arrival, batch: list[bytes]) -> None:
        """In a thread; counts only what is both written and hashed."""
        written = self.partial.write(arrival.chunk.offset + arrival.have_bytes, batch)
        for piece in batch:
            arrival.hasher.update(piece)
        arrival.have_bytes += written
