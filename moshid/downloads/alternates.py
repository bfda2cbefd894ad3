"""Several endpoints for the same bytes: which to ask next, and what is known against each.

The first endpoint alone says what there is: commits, digests, sizes, listings. Another gives bytes,
which the first one's digests prove, and only if it has the very same file; it never sees the token.
Who does not answer is left alone for a while, who gave wrong bytes for the rest of the job.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from moshid.downloads.health import Health
from moshid.downloads.remote import Absent, Hub, Listing, RemoteFile, Resized, Wanted
from moshid.errors import DownloadError, DownloadNetwork

HEDGE_S: Final = 3.0
"""An endpoint that has not answered after so long is not waited for alone."""

UNFIT_S: Final = 600.0
"""A mirror that lacks a file, or has another, may have caught up after so long."""

RECENT_S: Final = 5.0
"""So old may an answer be that stands for another question: the URL in it lives for a while, too,
and a Hub counts what it is asked."""

log = logging.getLogger(__name__)


class Recent:
    """What the first endpoint said of files at pinned commits, for a moment."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str, str], tuple[float, RemoteFile]] = {}

    def keep(self, repo: str, found: RemoteFile) -> None:
        """Remember an answer; forget what is too old."""
        now_s = self._clock()
        self._known = {k: v for k, v in self._known.items() if now_s - v[0] < RECENT_S}
        self._known[repo, found.commit, found.path] = now_s, found

    def get(self, repo: str, commit: str, path: str) -> RemoteFile | None:
        """The answer, if there is a recent one."""
        asked_s, found = self._known.get((repo, commit, path), (0.0, None))
        return found if found is not None and self._clock() - asked_s < RECENT_S else None

    def take(self, wanted: Wanted) -> RemoteFile | None:
        """The same, once: who asks for the place again has found that it is no longer good."""
        found = self.get(wanted.repo, wanted.commit, wanted.path)
        self._known.pop((wanted.repo, wanted.commit, wanted.path), None)
        return found


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place. ``asking``: the health of its answers; ``giving``: that of the bytes, which may
    come from elsewhere."""

    name: str
    hub: Hub
    asking: Health
    giving: Health

    @classmethod
    def of(
        cls, name: str, hub: Hub, rng: random.Random, clock: Callable[[], float] = time.monotonic
    ) -> Endpoint:
        """An endpoint of which nothing is known yet."""
        return cls(name, hub, Health(rng, clock), Health(rng, clock))


class Alternates:
    """The endpoints as a job sees them; a Hub, whose every answer is the first endpoint's."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        hedge_s: float = HEDGE_S,
        clock: Callable[[], float] = time.monotonic,
        recent: Recent | None = None,
    ) -> None:
        self.clock = clock
        self._recent = recent or Recent(clock)
        self._endpoints = tuple(endpoints)
        self._hedge_s = hedge_s
        self._unfit: dict[tuple[str, Wanted], float] = {}
        self._wrong: set[str] = set()
        self._jobs: dict[str, Alternates] = {}

    @classmethod
    def only(cls, hub: Hub) -> Alternates:
        """One endpoint, of which there is no other."""
        return cls([Endpoint.of("", hub, random.Random(0))])

    def for_job(self, job_id: str) -> Alternates:
        """The same endpoints, with what is held against them in this job."""
        if job_id not in self._jobs:
            self._jobs[job_id] = Alternates(
                self._endpoints, self._hedge_s, self.clock, self._recent
            )
        return self._jobs[job_id]

    @property
    def main(self) -> Endpoint:
        """The endpoint that names the job."""
        return self._endpoints[0]

    async def head(self, repo: str, revision: str, path: str) -> RemoteFile | Absent:
        """A file's metadata, by the first endpoint."""
        if (known := self._recent.get(repo, revision, path)) is not None:
            return known
        found = await self.main.hub.head(repo, revision, path)
        if isinstance(found, RemoteFile) and found.commit == revision:
            self._recent.keep(repo, found)  # asked by a branch's name, its place moves with a push
        return found

    async def config(self, file: RemoteFile, repo: str) -> dict[str, Any] | None:
        """A JSON file's content, by the first endpoint."""
        return await self.main.hub.config(file, repo)

    async def listing(self, repo: str, revision: str) -> Listing:
        """All paths of a repository, by the first endpoint."""
        return await self.main.hub.listing(repo, revision)

    async def headers(self, url: str, origin: str = "") -> dict[str, str]:
        """Headers for a GET of ``url``, a place that ``origin`` named."""
        named = [e for e in self._endpoints if e.name == origin]
        return await (named or [self.main])[0].hub.headers(url)

    async def locate(self, wanted: Wanted, besides: Collection[str] = ()) -> RemoteFile:
        """Where the bytes of a file are: at the best endpoint that has it, best at one that is not
        among ``besides``. No endpoint is waited for alone for long.

        Raises:
            DownloadNetwork: nobody has it at the moment.
            DownloadError, Resized: the first endpoint says no.
        """
        waiting = deque(self._order(wanted, besides))
        asked: dict[asyncio.Task[RemoteFile], Endpoint] = {}
        refused: list[DownloadNetwork] = []
        try:
            while waiting or asked:
                if waiting:
                    endpoint = waiting.popleft()
                    asked[asyncio.create_task(self._ask(endpoint, wanted))] = endpoint
                patience_s = self._hedge_s if waiting else None
                done, _ = await asyncio.wait(
                    asked, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
                )
                for slow in () if done else asked.values():
                    slow.asking.failed()
                for task in done:
                    del asked[task]
                    error = task.exception()
                    if error is None:
                        return task.result()
                    if not isinstance(error, DownloadNetwork):
                        raise error
                    refused.append(error)
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise refused[0]

    async def at_main(self, wanted: Wanted) -> RemoteFile:
        """Where the bytes are at the first endpoint.

        Raises:
            DownloadNetwork: it is not to be had at the moment.
            DownloadError, Resized: it says no.
        """
        try:
            async with asyncio.timeout(self._hedge_s):
                return await self._ask(self.main, wanted)
        except TimeoutError as e:
            self.main.asking.failed()
            raise DownloadNetwork(f"{self.main.name} does not answer") from e

    def has_other(self, wanted: Wanted, origin: str) -> bool:
        """Whether bytes of a file may be had elsewhere than at ``origin``."""
        others = [e for e in self._usable(wanted) if e.name != origin]
        return any(not e.giving.is_down and e.name not in self._wrong for e in others)

    def may_return(self, besides: Collection[str]) -> bool:
        """Whether it is worth trying the first endpoint again."""
        main = self.main
        shunned = main.name in self._wrong or main.name in besides
        return not (shunned or main.asking.is_down or main.giving.is_down)

    def failed(self, origin: str, wait_s: float | None = None) -> None:
        """Bytes do not come from there."""
        for endpoint in self._endpoints:
            if endpoint.name == origin and not endpoint.giving.is_down:
                log.warning("no bytes come from an endpoint", extra={"endpoint": origin})
                endpoint.giving.failed(wait_s)

    def brought(self, origin: str) -> None:
        """Bytes come from there."""
        for endpoint in self._endpoints:
            if endpoint.name == origin:
                endpoint.giving.well()

    def blame(self, origin: str) -> None:
        """Bytes from there were wrong: it is avoided for the rest of the job."""
        self._wrong.add(origin)

    def forgive(self) -> None:
        """Nobody is known to give right bytes: all are worth another try."""
        self._wrong.clear()

    def _order(self, wanted: Wanted, besides: Collection[str]) -> list[Endpoint]:
        """Whom to ask, the best first; the first endpoint is always among them."""

        def badness(endpoint: Endpoint) -> tuple[bool, ...]:
            e = endpoint
            return e.name in self._wrong, e.giving.is_down, e.name in besides, e.asking.is_down

        return sorted(self._usable(wanted), key=badness)

    def _usable(self, wanted: Wanted) -> list[Endpoint]:
        """All but the alternates that lack the file, or gave wrong bytes."""
        now_s, main = self.clock(), self.main
        return [
            e
            for e in self._endpoints
            if e is main
            or (e.name not in self._wrong and self._unfit.get((e.name, wanted), 0.0) <= now_s)
        ]

    async def _ask(self, endpoint: Endpoint, wanted: Wanted) -> RemoteFile:
        try:
            found: RemoteFile | Absent | None = None
            if endpoint is self.main:
                found = self._recent.take(wanted)
            if found is None:
                found = await endpoint.hub.head(wanted.repo, wanted.commit, wanted.path)
            self._check(endpoint, wanted, found)
            found = wanted.check(found)
        except DownloadNetwork as e:
            endpoint.asking.failed(e.facts.get("wait_s"))
            raise
        except (DownloadError, Resized) as e:
            if endpoint is self.main:
                raise
            self._unfit[endpoint.name, wanted] = self.clock() + UNFIT_S
            facts = {"endpoint": endpoint.name, "path": wanted.path, "why": e.message}
            log.warning("an alternate endpoint is of no use for a file", extra=facts)
            raise DownloadNetwork(f"{endpoint.name}: {e.message}") from e
        endpoint.asking.well()
        return replace(found, origin=endpoint.name)

    def _check(self, endpoint: Endpoint, wanted: Wanted, found: RemoteFile | Absent) -> None:
        other = isinstance(found, RemoteFile) and found.commit != wanted.commit
        if other and endpoint is not self.main:
            raise DownloadError(f"it has {wanted.repo} at another commit")
