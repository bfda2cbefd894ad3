"""One request on the link from hell, from its arrival to whatever becomes of its answer.

Owns what an answer is and what it suffers. When that happens is the dice's affair and the clock's;
whether anybody listens at all is the hub's.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fakes.hell_account import Account
from tests.fakes.hell_answers import DENIED, ranged, whole, wrong_answer
from tests.fakes.hell_plan import ANYWHERE, Blow, Fates, Hell, Wrong
from tests.fakes.hell_wire import PIECE_BYTES, Connection, Request, Shaper, head

HOST: Final = "127.0.0.1"
REPO: Final = "bench/hell"
NAME: Final = "model.safetensors"
COMMIT: Final = "d" * 40


class Gone(Exception):
    """The connection is over, by our hand or the client's."""


@dataclass(slots=True)
class Link:
    """What all requests share. ``shut``: until when a status is all that there is; ``refuse``: what
    the Hub answers to everything, if it means no; ``ports``: the Hub's and its CDN's."""

    content: memoryview
    sha256: str
    hell: Hell
    account: Account
    fates: Fates
    shaper: Shaper
    ports: tuple[int, int] = (0, 0)
    black_hole: bool = False
    shut: dict[int, float] = field(default_factory=dict)
    refuse: tuple[int, dict[str, str]] | None = None
    urls: int = 0


@dataclass(frozen=True, slots=True)
class Visit:
    """A request. ``entry``: what the log is to say of it."""

    link: Link
    to: Connection
    request: Request
    entry: dict[str, Any]

    async def answer(self) -> None:
        """Answer it, rightly or not.

        Raises:
            Gone: no further request can come over this connection.
            ConnectionError: the client has left.
        """
        path = self.request.path
        if self.link.black_hole or self.link.fates.stalls_before_answer():
            await self._stall("stalled before the first byte")
        elif busy := self._busy():
            await self._plain(str(busy[0]), busy[0], busy[1], b"Later.")
        elif path.startswith(f"/{REPO}/resolve/") and path.endswith(f"/{NAME}"):
            await self._resolve()
        elif path == "/cdn/file":
            await self._file()
        else:
            told = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            await self._plain("404", 404, told)

    def _tell(self, told: str) -> None:
        self.link.account.counts[told] += 1
        self.entry["told"] = told

    def _busy(self) -> tuple[int, dict[str, str]] | None:
        """A busy server's status; with 429 the time after which it serves again, in whole
        seconds."""
        account = self.link.account
        now_s = account.now_s
        for status, until_s in self.link.shut.items():
            if now_s < until_s:
                wait_s = max(1, math.ceil(until_s - now_s))
                if status != 429:
                    return status, {}
                account.shut(now_s + wait_s)
                if account.counts["429"] % 2:
                    return status, {"Retry-After": str(wait_s)}
                return status, {"RateLimit": f'"resolvers";r=0;t={wait_s}'}
        return None

    async def _plain(
        self, told: str, status: int, headers: dict[str, str], body: bytes = b""
    ) -> None:
        self._tell(told)
        body = b"" if self.request.method == "HEAD" else body
        await self._wait()
        await self.to.give(head(status, {"Content-Length": str(len(body))} | headers) + body)
        self.link.account.junk(len(body))

    async def _wait(self) -> None:
        await asyncio.sleep(self.link.hell.latency_s * (1 if self.to.answers else 2))

    async def _resolve(self) -> None:
        link = self.link
        if link.refuse:
            return await self._plain("refused", *link.refuse)
        if wrong := link.fates.wrong(ANYWHERE):
            return await self._wrong(wrong, slice(0, 0))
        link.urls += 1
        lost = link.fates.host_lost()
        host = f"cdn-{link.urls}.invalid" if lost else HOST
        until_s = link.account.now_s + link.hell.url_ttl_s
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{link.sha256}"',
            "X-Linked-Size": str(len(link.content)),
            "Location": f"http://{host}:{link.ports[1]}/cdn/file?until={until_s:.3f}",
        }
        return await self._plain("signed URL, lost host" if lost else "signed URL", 302, headers)

    async def _file(self) -> None:
        link, asked = self.link, self.request
        if link.account.now_s > float(asked.query.get("until", "0")):
            return await self._plain("expired", 403, {}, DENIED)
        size = len(link.content)
        ranges = asked.span(size)
        start, stop = ranges or (0, size)
        if not start < stop:
            return await self._plain("416", 416, {"Content-Range": f"bytes */{size}"})
        kinds = tuple(w for w in Wrong if ranges or w not in (Wrong.WHOLE_200, Wrong.OTHER_RANGE))
        if wrong := link.fates.wrong(kinds):
            return await self._wrong(wrong, slice(start, stop))
        headers = ranged(start, stop, size) if ranges else whole(size)
        self.entry["told"] = "file"
        with link.account.serving():
            await self._wait()
            await self.to.give(head(206 if ranges else 200, headers))
            if asked.method == "HEAD":
                return None
            blow, at = await self._stream(start, stop)
        return await self._suffer(blow, at) if blow else None

    async def _stream(self, at: int, stop: int) -> tuple[Blow | None, int]:
        """Send the bytes until something happens; says what, and where."""
        link = self.link
        flipped = link.fates.flipped(at, stop)
        while at < stop:
            size = min(PIECE_BYTES, stop - at)
            await self.to.turn(link.shaper, size)
            if link.black_hole:
                return Blow.SILENCE, at
            piece: bytes | memoryview = link.content[at : at + size]
            if at <= flipped < at + size:
                link.account.counts["flipped bytes"] += 1
                piece = bytes(b ^ (at + i == flipped) for i, b in enumerate(piece))
            await self._give(piece, at)
            at += size
            if (blow := link.fates.carried(size)) and at < stop:
                return blow, at
        return None, at

    async def _give(self, piece: bytes | memoryview, at: int) -> None:
        await self.to.give(piece)
        self.link.account.sent(at, at + len(piece))
        self.entry["bytes"] += len(piece)

    async def _suffer(self, blow: Blow, at: int) -> None:
        if blow in (Blow.SILENCE, Blow.DRIP):
            await self._stall(blow, at if blow is Blow.DRIP else None)
        self._tell(blow)
        await self.to.settle()
        if blow is Blow.RESET:
            self.to.reset()
        raise Gone

    async def _stall(self, told: str, drip_at: int | None = None) -> None:
        """Until the client closes the connection; raises Gone then. ``drip_at``: the byte that
        drips next."""
        self._tell(told)
        link = self.link
        with link.account.stalling():
            while True:
                try:
                    async with asyncio.timeout(None if drip_at is None else link.hell.drip_s):
                        await self.to.left()
                    raise Gone
                except TimeoutError:
                    at = drip_at or 0
                    await self._give(link.content[at : at + 1], at)
                    drip_at = at + 1

    async def _wrong(self, wrong: Wrong, span: slice) -> None:
        link = self.link
        status, headers, body = wrong_answer(wrong, link.content, span)
        self._tell(wrong)
        with link.account.serving():
            await self._wait()
            await self.to.give(head(status, headers))
            for at in range(0, len(body) if self.request.method != "HEAD" else 0, PIECE_BYTES):
                piece = body[at : at + PIECE_BYTES]
                await self.to.turn(link.shaper, len(piece))
                await self.to.give(piece)
                link.account.junk(len(piece))
