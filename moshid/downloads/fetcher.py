"""Fetches chunks over HTTP: ranged GET, exact answer, write and hash, again after any setback.

Owns attempts and their endings. A cut, a stall or a wrong answer costs the attempt, never the job,
and never the bytes that had arrived; only a real answer of the Hub ends the job.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NoReturn

import aiohttp

from moshid.downloads import proxies
from moshid.downloads.answers import PROXY_WAIT_S, Answer, Verdict, judge
from moshid.downloads.backoff import Backoff
from moshid.downloads.digests import prefix_hasher
from moshid.downloads.engine import Engine
from moshid.downloads.guard import Guard
from moshid.downloads.intake import BodyEnded, Intake
from moshid.downloads.job import JobFile
from moshid.downloads.keeper import Keeper
from moshid.downloads.landing import MIB, ChunkLanding, Landing, Tail
from moshid.downloads.meter import Meter
from moshid.downloads.plan import ByteRange, Chunk
from moshid.downloads.profiles import Profile
from moshid.downloads.redirects import get
from moshid.downloads.room import Room
from moshid.downloads.route import Route
from moshid.downloads.setback import Setback
from moshid.downloads.source import Link, Source
from moshid.downloads.stall import Watch
from moshid.downloads.unreached import unreached

GOOD_BYTES: Final = MIB // 4
"""An attempt that brought so much is followed by the next one at once."""

HELP_AGAIN_S: Final = 0.25
"""A worker that can help nobody looks again so much later."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches chunks of one blob. ``files`` are the job's files that show this blob."""

    engine: Engine
    profile: Profile
    route: Route
    meter: Meter
    files: Sequence[JobFile]
    source: Source
    keeper: Keeper
    intake: Intake
    work: deque[Chunk]
    """Chunks that no connection is at yet."""
    coming: list[ChunkLanding] = field(default_factory=list)
    """Chunks that a connection is at."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """There was a moment when it was at none."""
    room: Room = field(default_factory=Room)

    @property
    def in_a_hurry(self) -> bool:
        """All that is left is being brought: whoever is slow keeps the others waiting."""
        return not self.work

    async def run(self) -> None:
        """One connection: chunk after chunk, in the file's order; then the ends of slow ones, until
        none is under way. It leaves the rest when the server knows no ranges."""
        while not self.source.in_one_piece:
            if self.work:
                chunk = self.work.popleft()
                if not await self.fetch(chunk):
                    self.work.append(chunk)
                elif not self.work:
                    self.room.make()
            elif not self.coming:
                return
            elif await self.help():
                self.room.make()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(HELP_AGAIN_S):
                        await self.over.wait()

    async def fetch(self, chunk: Chunk) -> bool:
        """Bring a chunk in whole; its last bytes become durable a moment later. False: the server
        knows no ranges.

        Raises:
            MoshidError: the Hub says no, or the disk does.
        """
        landing = await self._resume(chunk)
        self.coming.append(landing)
        try:
            while not landing.complete:
                if not await self._bring([landing], in_one_piece=False):
                    return False
                await self._join(landing)
        finally:
            self.coming.remove(landing)
            if not self.coming:
                self.over.set()
        return True

    async def fetch_in_one_piece(self, chunks: Sequence[Chunk]) -> None:
        """Bring chunks in by one GET, from a server that gives the file only as a whole."""
        await self._bring([await self._resume(c) for c in chunks], in_one_piece=True)

    async def help(self) -> bool:
        """Bring in the end of a chunk that another connection is at. False: no chunk is worth it,
        or the line has no room."""
        if not self.route.has_room or self.source.gave_whole:
            return False
        for landing in sorted(self.coming, key=lambda c: -c.left_bytes):
            if (tail := landing.divide(self.profile.risk_bytes)) is not None:
                await self._bring_tail(tail, landing.chunk)
                return True
        return False

    async def _bring_tail(self, tail: Tail, chunk: Chunk) -> None:
        try:
            await self._bring([tail], in_one_piece=False, suspect=chunk)
        finally:
            tail.settled.set()

    async def _join(self, landing: ChunkLanding) -> None:
        """Wait for the tail, if another connection brings it, and take it in."""
        if landing.tail is not None:
            await landing.tail.settled.wait()
            await self.engine.on_disk(landing.join, self.intake.partial.fd)
            self.keeper.note(landing.mark())

    async def _bring(
        self, landings: Sequence[Landing], *, in_one_piece: bool, suspect: Chunk | None = None
    ) -> bool:
        """Attempt after attempt, until nothing is left. False, unless ``in_one_piece``: the server
        knows no ranges. ``suspect``: the chunk to doubt when something goes wrong."""
        profile = self.profile
        backoff = Backoff(profile.retry_first_s, profile.retry_max_s, self.engine.rng)
        while missing := [a for a in landings if a.left_bytes > 0]:
            before = [a.at for a in missing]
            try:
                async with self.route.reach.turn():
                    link = await self.source.link()
                    async with self.route.gate.slot():
                        await self._attempt(missing, link, in_one_piece)
            except Setback as e:
                if self.source.in_one_piece and not in_one_piece:
                    return False
                self._blame(e, missing, suspect)
                came_bytes = sum(a.at for a in missing) - sum(before)
                if came_bytes > 0:
                    backoff.reset()
                if not self._tell(link, missing, before, suspect, e.wait_s):
                    if e.busy and suspect is not None:
                        return True  # whose tail it is can go on with it at once
                    await self._wait(e, backoff, came_bytes)
            else:
                self._tell(link, missing, before, suspect)
        return True

    def _tell(
        self,
        link: Link,
        asked: Sequence[Landing],
        before: Sequence[int],
        suspect: Chunk | None,
        wait_s: float | None = None,
    ) -> bool:
        """Tell the source what came over a link; whether the next attempt goes elsewhere."""
        have_bytes = self.files[0].bytes_done
        came = [a for a, at in zip(asked, before, strict=True) if a.at > at]
        for landing in came:
            chunk = landing.chunk if isinstance(landing, ChunkLanding) else suspect
            if chunk is not None:
                self.source.took(link, chunk.index, have_bytes)
        return not came and self.source.missed(link, have_bytes, wait_s)

    def _blame(self, e: Setback, missing: Sequence[Landing], suspect: Chunk | None) -> None:
        self.meter.setback(e.told, trouble=e.trouble)
        broken = next((a for a in missing if a.left_bytes > 0), missing[-1])
        chunk = broken.chunk if isinstance(broken, ChunkLanding) else suspect
        if chunk is not None:
            chunk.suspicion += e.trouble

    async def _resume(self, chunk: Chunk) -> ChunkLanding:
        """Go on after the durable prefix, if it still has the digest that the ledger knows."""
        landing = ChunkLanding.begin(chunk)
        if not chunk.durable_bytes:
            return landing
        hasher = await self.engine.on_disk(prefix_hasher, self.intake.partial.fd, chunk)
        if hasher is not None:
            landing.at, landing.hasher = chunk.offset + chunk.durable_bytes, hasher
            return landing
        self.meter.corrupt(1)
        self.meter.hold(self.files, -chunk.durable_bytes)
        chunk.forget()
        return landing

    async def _wait(self, setback: Setback, backoff: Backoff, came_bytes: int) -> None:
        if setback.wait_s is not None:
            self.route.gate.hold(setback.wait_s)
        if setback.says_line_is_down(backoff.failures):
            self.route.reach.lose()
            return
        wait_s = 0.0
        if came_bytes < GOOD_BYTES and not setback.stalled:
            first = backoff.failures == 0
            wait_s = backoff.next_s()
            wait_s = 0.0 if first and setback.renewed else wait_s
        log.info("trying again", extra={"why": setback.reason, "wait_s": round(wait_s, 2)})
        if not setback.busy:
            await asyncio.sleep(wait_s)
        elif await self.room.wait(wait_s):
            backoff.reset()  # the server may not know yet that the other one has left

    async def _attempt(self, landings: Sequence[Landing], link: Link, in_one_piece: bool) -> None:
        """One GET of what is left of the landings; ``in_one_piece``: out of the whole file, if need
        be.

        Raises:
            Setback: it did not bring all of it.
        """
        watch = self.route.stalls.watch(lambda: self.in_a_hurry)
        try:
            async with asyncio.timeout(None) as timer:
                with Guard(watch, self.route.gate, timer).on_duty():
                    await self._get(landings, link, in_one_piece, watch)
        except TimeoutError as e:
            watch.stalled()
            dead = self.route.stalls.dead_s > 0
            raise Setback("the line stalled", unreachable=dead, stalled=True) from e
        except BodyEnded as e:
            raise Setback("the answer ended early") from e
        except aiohttp.ClientHttpProxyError as e:
            login = e.status == proxies.LOGIN
            why, wait_s = proxies.refusal(link.url, e.status), PROXY_WAIT_S if login else None
            raise Setback(why, wait_s=wait_s) from e
        except aiohttp.ClientConnectorError as e:
            fresh = self.source.is_fresh(link)
            self.source.expire(link)  # its host may be gone, and another one there
            dead = self.route.stalls.dead_s > 0
            told = unreached("the place of the bytes", e)
            raise Setback(
                told.message, hint=told.hint, unreachable=dead, renewed=True, fresh=fresh
            ) from e
        except (aiohttp.NonHttpUrlClientError, aiohttp.TooManyRedirects, ValueError) as e:
            if not self.source.is_fresh(link):
                self.source.expire(link)  # a slip of who named it, perhaps
            raise Setback("the place of the bytes is no web address, or leads in a circle") from e
        except (aiohttp.ClientError, OSError) as e:
            raise Setback(f"the line broke ({type(e).__name__})") from e

    async def _get(
        self,
        landings: Sequence[Landing],
        link: Link,
        in_one_piece: bool,
        watch: Watch,
    ) -> None:
        want = ByteRange(landings[0].at, landings[-1].stop)
        headers = link.headers | ({} if self.source.no_ranges else {"Range": want.header})
        asking = get(self.engine.session, link.url, headers)
        async with self.route.aftermath.connection(watch, asking) as answer:
            watch.answered()
            self.route.reach.found()
            size = self.intake.partial.size
            verdict = judge(answer.status, answer.headers, want, size, link.encoding)
            if verdict.verdict in (Verdict.TAKE, Verdict.WHOLE):
                self.source.gave(link, whole=verdict.verdict is Verdict.WHOLE)
                self.route.gave(answer)
            whole = verdict.verdict is Verdict.WHOLE
            if verdict.verdict is not Verdict.TAKE and not (whole and in_one_piece):
                answer.close()
                self._refused(verdict, link)
            body = ByteRange(0 if whole else verdict.start, verdict.stop)
            with self.source.bringing():
                await self.intake.take(landings, answer, body, watch)

    def _refused(self, verdict: Answer, link: Link) -> NoReturn:
        """Raise what an answer without the bytes means."""
        if verdict.verdict is Verdict.WAIT:
            self.route.gate.refused(self.meter.job.connections)
        self.source.refused(link, verdict)
        raise Setback(
            verdict.reason,
            wait_s=verdict.wait_s,
            trouble=verdict.verdict not in (Verdict.RENEW, Verdict.WHOLE),
            renewed=verdict.verdict is Verdict.RENEW,
            busy=verdict.verdict is Verdict.WAIT,
        )
