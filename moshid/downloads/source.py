"""Where a file's bytes come from: its signed URL, renewed when it expires. Single flight.

Owns patience too: a Hub that cannot be reached is asked again for ever; a Hub that says no is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from moshid.downloads.alternates import Alternates
from moshid.downloads.answers import Answer, Verdict
from moshid.downloads.backoff import Outage
from moshid.downloads.givers import Givers, Misses
from moshid.downloads.meter import Meter
from moshid.downloads.once import Once
from moshid.downloads.remote import Hub, RemoteFile, Resized, Wanted
from moshid.errors import DownloadNetwork, DownloadUnauthorized

T = TypeVar("T")

WHOLES_MAX: Final = 4
"""So many times in a row the whole file instead of a range: the server knows no ranges."""

MISPLACED_MAX: Final = 16
"""So many times in a row a range that is another than asked for, or no one knows which: the whole
file is asked for. More than the connections that may be told one slip at once."""

RESIZED_MAX: Final = 4
"""So many answers in a row from a file of another size, and the Hub is asked for the size anew."""

MISSES_MAX: Final = 3
"""So many attempts in a row without a byte of the file, and another endpoint is asked for it."""

BUSY_S: Final = 5.0
"""A server that wants to be left alone for so long is not waited for, if there is another."""

RETURN_S: Final = 30.0
"""So often one connection tries whether the first endpoint is back."""

FRESH_S: Final = 2.0
"""Who named a link so lately was reached: if its host cannot be, the line is not to blame."""

FULL_HINT: Final = "Others bring bytes: the server allows no more connections, perhaps."
"""Some servers refuse (403) whoever has too many connections."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """A URL that gives the file's bytes for a while, the headers it wants, the endpoint that named
    it, when (by the source's clock), and what the bytes are called, though they are the file."""

    url: str
    headers: dict[str, str]
    origin: str = ""
    named_s: float = 0.0
    encoding: str = ""


class Patience:
    """Asks until there is an answer. ``meter`` shows meanwhile what is wrong."""

    def __init__(self, outage: Callable[[], Outage], meter: Meter) -> None:
        self._outage = outage
        self._meter = meter

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to ``ask()``; only DownloadNetwork is no answer.

        Raises:
            DownloadError: any other error of the download tree.
        """
        outage = self._outage()
        while True:
            try:
                answer = await ask()
            except DownloadNetwork as e:
                self._meter.setback(e)
                wait_s = max(outage.next_s(), e.facts.get("wait_s") or 0.0)
                log.info("asking again", extra={"why": e.message, "wait_s": round(wait_s, 1)})
                await asyncio.sleep(wait_s)
            else:
                return answer


class Source:
    """The bytes of one file at one commit, from one of the endpoints that ``hub`` has."""

    def __init__(
        self, hub: Hub, patience: Patience, repo: str, commit: str, path: str, etag: str, size: int
    ) -> None:
        self._hub = hub if isinstance(hub, Alternates) else Alternates.only(hub)
        self._patience = patience
        self._wanted = Wanted(repo, commit, path, etag, size)
        self._lock = asyncio.Lock()
        self._link: Link | None = None
        self._wholes = self._resized = self._misplaced = 0
        self._once = Once()
        self._told_size: int | None = None
        self._misses = Misses()
        self._return_s = 0.0
        self._bringing = 0
        self._named = False
        self.no_ranges = False
        """Whether the server refuses all that asks for a range."""
        self.givers = Givers(self._hub, path)
        """Which endpoint gave which chunk."""

    @property
    def in_one_piece(self) -> bool:
        """Whether the server gives the file only as a whole."""
        return self._wholes >= WHOLES_MAX

    @property
    def gave_whole(self) -> bool:
        """Whether the server's last answer was the file as a whole."""
        return self._wholes > 0

    def gave(self, link: Link, *, whole: bool) -> None:
        """The server answered a range with the whole file, or as it should."""
        self._once.gave(link)
        self._wholes = self._wholes + 1 if whole else 0
        self._resized = self._misplaced = 0

    def refused(self, link: Link, answer: Answer) -> None:
        """The answer over this link was not to be taken: perhaps the link is no longer good, or
        whoever told the file's size was wrong, or the server cannot stand a range."""
        self._resized = self._resized + 1 if answer.other_size else self._resized
        renew = answer.verdict is Verdict.RENEW
        if renew and self._link is link and self.is_fresh(link):
            self._once.refused()
        if renew or self._resized >= RESIZED_MAX:
            self._resized = 0
            self.expire(link)
        self._misplaced += answer.misplaced
        if answer.no_ranges:
            self._wholes += 1
        elif self._misplaced >= MISPLACED_MAX:
            self._wholes = WHOLES_MAX
        if answer.no_ranges or answer.misplaced:
            self.no_ranges = self._wholes >= WHOLES_MAX

    async def link(self) -> Link:
        """A link that was good when it was last tried; asks the Hub if there is none.

        Raises:
            DownloadError: the Hub no longer gives the file.
            Resized: the Hub tells another size of it, and does so again.
        """
        async with self._lock:
            if self._link is None:
                self._link = await self._patience.insist(self._renew)
            link, now_s = self._link, self._hub.clock()
            if link.origin == self._hub.main.name or now_s < self._return_s:
                return link
            self._return_s = now_s + RETURN_S
        return await self._trial() or link

    def is_fresh(self, link: Link) -> bool:
        """Whether it was named just now."""
        return self._hub.clock() - link.named_s < FRESH_S

    def expire(self, link: Link | None = None) -> None:
        """The link (whichever it is, if None is given) is no longer good."""
        if link is None or self._link is link:
            self._link = None

    @contextmanager
    def bringing(self) -> Iterator[None]:
        """A connection brings bytes of the file meanwhile."""
        self._bringing += 1
        try:
            yield
        finally:
            self._bringing -= 1

    def took(self, link: Link, chunk: int, have_bytes: int) -> None:
        """Bytes of a chunk have come over this link; ``have_bytes`` of the file are there."""
        self._misses = Misses(have_bytes)
        self.givers.took(link.origin, chunk)
        self._hub.brought(link.origin)
        moved = self._link is not None and self._link.origin != link.origin
        if moved and link.origin == self._hub.main.name:
            self._link = link  # the trial went well

    def missed(self, link: Link, have_bytes: int, wait_s: float | None = None) -> bool:
        """An attempt over this link brought nothing; ``have_bytes`` of the file are there, and the
        server wants ``wait_s`` of patience. Whether the next attempt goes elsewhere."""
        if self._link is not None and self._link.origin != link.origin:
            self._hub.failed(link.origin, wait_s)
            return True  # it was a trial, or others have left before
        busy = wait_s is not None and wait_s >= BUSY_S
        self._misses = self._misses.more(have_bytes)
        if not busy and self._misses.count < MISSES_MAX:
            return False
        if not self._hub.has_other(self._wanted, link.origin):
            return False
        self._hub.failed(link.origin, wait_s)
        self._misses = Misses(have_bytes)
        self._return_s = self._hub.clock() + RETURN_S
        self.expire()
        return True

    async def _trial(self) -> Link | None:
        """A link of the first endpoint's for one connection, while the others stay where they are;
        None while it is not worth a try."""
        if not self._hub.may_return(self.givers.shunned):
            return None
        try:
            return await self._over(await self._hub.at_main(self._wanted))
        except (DownloadNetwork, Resized):
            return None

    async def _renew(self) -> Link:
        try:
            found = await self._hub.locate(self._wanted, self.givers.shunned)
        except Resized as e:
            if e.size == self._told_size:
                raise
            self._told_size = e.size  # what is said once may be a slip
            raise DownloadNetwork(e.message) from e
        except DownloadUnauthorized as e:
            if not self._bringing:
                raise
            raise DownloadNetwork(e.message, hint=FULL_HINT) from e
        self._told_size = None
        return await self._over(found)

    async def _over(self, found: RemoteFile) -> Link:
        if not found.ranges and not self._named:  # later it may be one connection too many
            self.no_ranges, self._wholes = True, WHOLES_MAX
        self._named = True
        url = found.asked if self._once.is_so else found.location
        headers = await self._hub.headers(url, found.origin)
        return Link(url, headers, found.origin, self._hub.clock(), found.encoding)
