"""Where a file's bytes come from: its signed URL, renewed when it expires. Single flight.

Owns patience too: a Hub that cannot be reached is asked again for ever; a Hub that says no is not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from moshid.downloads.backoff import Backoff
from moshid.downloads.hub import Absent, Hub
from moshid.downloads.meter import Meter
from moshid.errors import DownloadError, DownloadNetwork, DownloadNotFound

T = TypeVar("T")

WHOLES_MAX: Final = 4
"""So many times in a row the whole file instead of a range: the server knows no ranges."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Link:
    """A URL that gives the file's bytes for a while, and the headers it wants."""

    url: str
    headers: dict[str, str]


class Patience:
    """Asks until there is an answer. ``meter`` shows meanwhile what is wrong."""

    def __init__(self, backoff: Callable[[], Backoff], meter: Meter) -> None:
        self._backoff = backoff
        self._meter = meter

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to ``ask()``; only DownloadNetwork is no answer.

        Raises:
            DownloadError: any other error of the download tree.
        """
        backoff = self._backoff()
        while True:
            try:
                answer = await ask()
            except DownloadNetwork as e:
                self._meter.setback(e)
                wait_s = max(backoff.next_s(), e.facts.get("wait_s") or 0.0)
                log.info("asking again", extra={"why": e.message, "wait_s": round(wait_s, 1)})
                await asyncio.sleep(wait_s)
            else:
                return answer


class Source:
    """The bytes of one file at one commit."""

    def __init__(
        self, hub: Hub, patience: Patience, repo: str, commit: str, path: str, etag: str, size: int
    ) -> None:
        self._hub = hub
        self._patience = patience
        self._where = (repo, commit, path)
        self._what = (etag, size)
        self._lock = asyncio.Lock()
        self._link: Link | None = None
        self._wholes = 0

    @property
    def in_one_piece(self) -> bool:
        """Whether the server gives the file only as a whole."""
        return self._wholes >= WHOLES_MAX

    def gave(self, *, whole: bool) -> None:
        """The server answered a range with the whole file, or as it should."""
        self._wholes = self._wholes + 1 if whole else 0

    async def link(self) -> Link:
        """A link that was good when it was last tried; asks the Hub if there is none.

        Raises:
            DownloadError: the Hub no longer gives the file.
        """
        async with self._lock:
            if self._link is None:
                self._link = await self._patience.insist(self._renew)
            return self._link

    def expire(self, link: Link | None = None) -> None:
        """The link (whichever it is, if None is given) is no longer good."""
        if link is None or self._link is link:
            self._link = None

    async def _renew(self) -> Link:
        repo, _commit, path = self._where
        found = await self._hub.head(*self._where)
        if isinstance(found, Absent):
            raise DownloadNotFound(f"{repo} no longer has {path}")
        if (found.etag, found.size) != self._what:
            raise DownloadError(
                f"{repo} no longer has {path} as it was when the job began",
                hint="Cancel the job and start it again.",
            )
        return Link(found.location, await self._hub.headers(found.location))
