"""Compares a few small ranges of a file on disk with what the server has there.

Owns the choice of the ranges and their fetching. A file of the same name and size may be another;
to read or copy gigabytes of it only to find that out by the whole file's digest is a waste.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import aiohttp

from moshid.downloads.answers import Verdict, judge
from moshid.downloads.backoff import Backoff
from moshid.downloads.engine import Engine
from moshid.downloads.meter import Meter
from moshid.downloads.plan import ByteRange
from moshid.downloads.profiles import Profile
from moshid.downloads.redirects import get
from moshid.downloads.setback import Setback
from moshid.downloads.source import Link, Source
from moshid.errors import DownloadNetwork

SPOT_BYTES: Final = 4096
SPOTS: Final = 4
TRIES: Final = 64

Bytes = Callable[[int, int], bytes]
"""What a file has from one position up to another, as far as it was written. Blocking."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spots:
    """Compares with the bytes of ``source``, a file of ``size`` bytes."""

    engine: Engine
    meter: Meter
    source: Source
    profile: Profile
    size: int

    async def agree(self, stretches: list[ByteRange], read: Bytes) -> bool | None:
        """Whether the server has the same bytes at a few places; ``stretches``: where ``read`` may
        have any. None: it has none there, or the server does not give what to compare with."""
        picked = await self.engine.on_disk(self._pick, stretches, read)
        for spot, here in picked.items():
            there = await self._fetch(spot)
            if there is not None and there != here:  # perhaps it was the line
                self.source.expire()
                there = await self._fetch(spot)
            if there != here:
                return None if there is None else False
        return True if picked else None

    def _pick(self, stretches: list[ByteRange], read: Bytes) -> dict[ByteRange, bytes]:
        """The first bytes, and some at random that are not all alike."""
        picked: dict[ByteRange, bytes] = {}
        total = sum(s.size for s in stretches)
        for attempt in range(TRIES if total else 0):
            at = self.engine.rng.randrange(total) if attempt else 0
            for stretch in stretches:
                if at < stretch.size:
                    break
                at -= stretch.size
            start = stretch.start + max(0, min(at, stretch.size - SPOT_BYTES))
            spot = ByteRange(start, min(start + SPOT_BYTES, stretch.stop))
            found = read(spot.start, spot.stop)
            if len(found) == spot.size and len(set(found)) > 1:
                picked[spot] = found
            if len(picked) == SPOTS:
                break
        return picked

    async def _fetch(self, spot: ByteRange) -> bytes | None:
        """The server's bytes. None: it gives no ranges, or has refused them for so long that they
        are not worth waiting for. While nobody answers at all, there is nothing else to do."""
        profile, clock = self.profile, asyncio.get_running_loop().time
        backoff = Backoff(profile.retry_first_s, profile.retry_max_s, self.engine.rng)
        until_s: float | None = None
        while not self.source.in_one_piece:
            link = await self.source.link()
            fresh = self.source.is_fresh(link)
            try:
                found = await self._attempt(spot, link)
            except Setback as e:
                self.meter.setback(DownloadNetwork(e.reason), trouble=e.trouble)
                wait_s = max(backoff.next_s(), e.wait_s or 0.0)
                self.source.missed(link, 0, e.wait_s)
                if until_s is None and (fresh or not e.unreachable):
                    until_s = clock() + profile.stall_timeout_s
                log.info("asking again", extra={"why": e.reason, "wait_s": round(wait_s, 2)})
                await asyncio.sleep(wait_s)
                if until_s is not None and clock() >= until_s:
                    return None
            else:
                self.meter.skipped(len(found))
                return found
        return None

    async def _attempt(self, spot: ByteRange, link: Link) -> bytes:
        """Raises Setback: it did not bring the bytes."""
        try:
            async with asyncio.timeout(self.profile.stall_timeout_s):
                return await self._get(spot, link)
        except (TimeoutError, aiohttp.ClientConnectorError) as e:
            self.source.expire(link)  # its host may be gone, and another one there
            raise Setback(f"no answer ({type(e).__name__})", unreachable=True) from e
        except (EOFError, aiohttp.ClientError, OSError, ValueError) as e:
            raise Setback(f"the line broke ({type(e).__name__})") from e

    async def _get(self, spot: ByteRange, link: Link) -> bytes:
        headers = link.headers | {"Range": spot.header}
        async with await get(self.engine.session, link.url, headers) as answer:
            verdict = judge(answer.status, answer.headers, spot, self.size, link.encoding)
            if verdict.verdict in (Verdict.TAKE, Verdict.WHOLE):
                self.source.gave(link, whole=verdict.verdict is Verdict.WHOLE)
            if verdict.verdict is Verdict.TAKE:
                return await answer.content.readexactly(spot.size)
            answer.close()
            self.source.refused(link, verdict)
            trouble = verdict.verdict is not Verdict.RENEW
            raise Setback(verdict.reason, wait_s=verdict.wait_s, trouble=trouble)
