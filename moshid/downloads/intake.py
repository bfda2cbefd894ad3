"""Brings an answer's body to where it lands: watched, bounded by what is at risk, kept as it comes.

Owns one answer's reading, over the event loop or, on a fast plain connection, by a siphon; decides
nothing about what comes after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import aiohttp

from moshid.downloads.allowance import Unlimited
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.front import Front
from moshid.downloads.job import JobFile
from moshid.downloads.keeper import Keeper, Mark
from moshid.downloads.landing import MIB, ChunkLanding, Landing
from moshid.downloads.meter import Meter
from moshid.downloads.plan import ByteRange
from moshid.downloads.siphon import Errand, Siphon
from moshid.downloads.stall import Watch

BATCH_BYTES = MIB
"""So much is gathered before a thread writes and hashes it."""


class BodyEnded(Exception):
    """The body ended before all of it had come."""


class News:
    """How far a landing is, told by a thread to the event loop: the latest stands for all before.
    ``arrived`` hears of it there."""

    def __init__(self, landing: Landing, arrived: Callable[[int, Mark | None], None]) -> None:
        self._landing = landing
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._at = landing.at
        self._latest = landing.at, landing.mark()
        self._posted = False

    def post(self) -> None:
        """In the thread, after each step."""
        self._latest = self._landing.at, self._landing.mark()
        if not self._posted:
            self._posted = True
            self._loop.call_soon_threadsafe(self.take)

    def take(self) -> None:
        """On the event loop."""
        self._posted = False  # before it looks: what comes later is posted again
        (at, mark), before = self._latest, self._at
        self._at = at
        self._arrived(at - before, mark)


@dataclass(slots=True)
class Intake:
    """Takes the bodies of answers. ``files``: the job's files that show the blob; up to
    ``hop_bytes`` land in one go; when the job's connections together were faster than
    ``siphon_bps`` of late, they are read by threads. ``front``: the whole-file hash, if it runs
    along."""

    engine: Engine
    meter: Meter
    files: Sequence[JobFile]
    partial: Partial
    keeper: Keeper
    allowance: Unlimited
    hop_bytes: int
    siphon_bps: float
    front: Front | None
    fast: bool = False

    async def take(
        self,
        landings: Sequence[Landing],
        answer: aiohttp.ClientResponse,
        body: ByteRange,
        watch: Watch,
    ) -> None:
        """Take the landings, one after the other, out of an answer whose ``body`` is that part of
        the file; as far as it goes.

        Raises:
            BodyEnded: it ended before.
        """
        self.meter.job.connections += 1
        at = body.start
        try:
            for landing in landings:
                if landing.at >= body.stop:
                    break
                await self._skip(answer, landing.at - at, watch)
                alone = len(landings) == 1 and body.stop <= landing.stop
                await self._receive(landing, answer, body.stop, watch, alone=alone)
                at = landing.at
        finally:
            self.meter.job.connections -= 1

    async def _skip(self, answer: aiohttp.ClientResponse, count_bytes: int, watch: Watch) -> None:
        """Let bytes pass that are there already; they are the line's, too."""
        while count_bytes > 0:
            with watch.resting():
                most_bytes = await self.allowance.grant(min(count_bytes, BATCH_BYTES))
            piece = b""
            try:
                piece = await _piece(answer, most_bytes)
            finally:
                self.allowance.charge(len(piece) - most_bytes)
            if not piece:
                raise BodyEnded
            watch.took(len(piece))
            count_bytes -= len(piece)
            self.meter.skipped(len(piece))

    async def _receive(
        self,
        landing: Landing,
        answer: aiohttp.ClientResponse,
        stop: int,
        watch: Watch,
        *,
        alone: bool,
    ) -> None:
        """Take a landing, up to ``stop``, batch by batch; what has arrived is kept, whatever ends
        the attempt.
        ``alone``: nothing else is wanted of the body, so that its pieces may be taken as they come,
        which saves joining them."""
        clock, batch_bytes = watch.stalls.clock, min(BATCH_BYTES, self.hop_bytes)
        part = stop < landing.stop
        while landing.left_bytes > 0 and landing.at < stop:
            began_s, began = clock(), landing.at
            whole = alone and not part and is_counted(answer)
            if self.fast and whole and Siphon.fits(answer):
                await self._siphon(landing, answer, watch)
            else:
                most_bytes = min(batch_bytes, stop - landing.at)
                most_bytes = await self._allowed(landing, most_bytes, watch)
                await self._batch(landing, answer, most_bytes, watch, alone=alone)
            rate_bps = (landing.at - began) / max(clock() - began_s, 1e-9)
            self.fast = rate_bps * self.meter.job.connections > self.siphon_bps

    async def _batch(
        self,
        landing: Landing,
        answer: aiohttp.ClientResponse,
        most_bytes: int,
        watch: Watch,
        *,
        alone: bool,
    ) -> None:
        pieces: list[bytes] = []
        size = 0
        as_they_come = alone and is_counted(answer) and self.allowance.free
        try:
            while size < most_bytes:
                piece = await _piece(answer, most_bytes - size, as_they_come=as_they_come)
                if not piece:
                    raise BodyEnded
                watch.took(len(piece))
                self.meter.saw(len(piece))
                pieces.append(piece)
                size += len(piece)
        finally:
            self.allowance.charge(size - most_bytes)
            before = landing.at
            await self._store(landing, pieces, watch)
            self.meter.saw(landing.at - before - size)  # what was too much is not to come

    async def _siphon(
        self,
        landing: Landing,
        answer: aiohttp.ClientResponse,
        watch: Watch,
    ) -> None:
        """The rest of the landing, by hops in a thread."""
        with closing(Siphon(answer, self.front)) as siphon:
            while landing.left_bytes > 0:
                await self._safe(landing, watch)
                free = self.allowance.free  # what was granted freely owes nothing later
                want_bytes = landing.left_bytes if free else self.hop_bytes
                most_bytes = await self._granted(landing, want_bytes, watch)
                before, news = landing.at, News(landing, self._arrived)
                errand = Errand(
                    *(landing, self.partial, watch, most_bytes, self.hop_bytes),
                    tell=news.post,
                    may_go_on=lambda: not self._is_full(landing) and self.allowance.free,
                )
                watch.rest()
                try:
                    ended = await self.engine.on_line(siphon.hop, errand)
                finally:
                    came_bytes = landing.at - before
                    self.allowance.charge(0 if free else came_bytes - most_bytes)
                    news.take()
                if ended and landing.left_bytes > 0:
                    raise BodyEnded

    def _is_full(self, landing: Landing) -> bool:
        """Whether too much of the landing's chunk is at risk for more of it to come now."""
        return isinstance(landing, ChunkLanding) and self.keeper.is_full(
            landing.chunk, landing.have_bytes
        )

    async def _allowed(self, landing: Landing, most_bytes: int, watch: Watch) -> int:
        """How much of the landing may come next."""
        await self._safe(landing, watch)
        return await self._granted(landing, most_bytes, watch)

    async def _safe(self, landing: Landing, watch: Watch) -> None:
        """Wait while too much of the landing's chunk is at risk."""
        if isinstance(landing, ChunkLanding) and self._is_full(landing):
            with watch.resting():
                await self.keeper.room(landing.chunk, landing.have_bytes)

    async def _granted(self, landing: Landing, most_bytes: int, watch: Watch) -> int:
        """Wait for the line's leave: how much of the landing it gives."""
        with watch.resting():
            granted_bytes = await self.allowance.grant(min(most_bytes, landing.left_bytes))
        return min(granted_bytes, landing.left_bytes)

    async def _store(self, landing: Landing, pieces: Sequence[bytes], watch: Watch) -> None:
        before, views = landing.at, landing.clip(pieces)
        if not views:
            return
        try:
            with watch.resting():
                await self.engine.on_disk(landing.land, self.partial, views)
        finally:
            if self.front is not None:
                self.front.landed(before, landing.at, views)
            self._arrived(landing.at - before, landing.mark())

    def _arrived(self, count_bytes: int, mark: Mark | None) -> None:
        if count_bytes > 0:
            self.meter.arrived(self.files, count_bytes)
            self.allowance.moved()
            if mark is not None:
                self.keeper.note(mark)


async def _piece(
    answer: aiohttp.ClientResponse, most_bytes: int, *, as_they_come: bool = False
) -> bytes:
    """The next bytes of a body; b"" at its end. What had come before the line broke is taken, too:
    aiohttp has it, but raises first."""
    content = answer.content
    try:
        if as_they_come:
            return (await content.readchunk())[0]
        return await content.read(most_bytes)
    except aiohttp.ClientError:
        if piece := content._read_nowait(most_bytes):
            return piece
        raise


def is_counted(answer: aiohttp.ClientResponse) -> bool:
    """Whether the server told the body's length, so that it can hold no more than was asked for."""
    return "Content-Length" in answer.headers and "Transfer-Encoding" not in answer.headers
