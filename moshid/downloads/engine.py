"""What every transfer shares: threads, ledger, shelf, Hub, session. Wires nothing by itself."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import aiohttp

from moshid.downloads.buffers import Buffers
from moshid.downloads.disk import DiskPool, Partial
from moshid.downloads.heads import bound_heads
from moshid.downloads.hub import Hub
from moshid.downloads.ledger_thread import LedgerThread
from moshid.downloads.proxies import has_proxies
from moshid.downloads.shelf import Shelf
from moshid.downloads.volume import Volume, disk_error
from moshid.errors import VolumeMissing

P = ParamSpec("P")
T = TypeVar("T")

READ_BUFFER_BYTES: Final = 256 * 1024
HEADER_BYTES_MAX: Final = 64 * 1024
"""A header line may be so long, as it may for requests: signed URLs and policies are."""


@dataclass(frozen=True, slots=True)
class Engine:
    """The shared parts. ``tallies``: the folder of the jobs' tallies, and ``counts`` the one thread
    that is at them; ``boot_id``: changes when the
    machine starts anew; ``rng``: for jitter; ``shelf`` and ``hub``: the cache and the Hub, unless
    ``site`` gave the job others."""

    disk: DiskPool
    lines: DiskPool
    hashes: DiskPool
    counts: DiskPool
    ledger: LedgerThread
    shelf: Shelf
    hub: Hub
    session: aiohttp.ClientSession
    volume: Volume
    tallies: Path
    boot_id: str
    rng: random.Random
    buffers: Buffers = field(default_factory=Buffers)
    offline: bool = False
    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """By the shelf's key: two jobs that want the same blob take turns."""

    async def on_disk(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Blocking disk work in a thread; its failures as errors of the download tree."""
        return await self._in(self.disk, work, *args, **kwargs)

    async def on_line(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for work that waits for the network, too, a little while at a time."""
        return await self._in(self.lines, work, *args, **kwargs)

    async def on_hash(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for the whole-file hash, which all else waits for in the end."""
        return await self._in(self.hashes, work, *args, **kwargs)

    async def _in(
        self, pool: DiskPool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            return await pool.run(work, *args, **kwargs)
        except OSError as e:
            told = (self.shelf.name, self.shelf.check_hint)
            raise await asyncio.to_thread(disk_error, e, self.volume, *told) from e

    async def open_partial(self, etag: str, size: int) -> Partial:
        """Open the partial file of a digest; raises as ``Partial.open``, as our errors. A caller
        that is cancelled meanwhile leaves no lock behind."""
        opened: list[Partial] = []
        path = self.shelf.partial(etag)
        try:
            await self.on_disk(lambda: opened.append(Partial.open(path, size)))
        except BaseException:
            for partial in opened:
                partial.close()
            raise
        return opened[0]


async def check_present(engine: Engine) -> None:
    """Raises VolumeMissing: where the files are to be, their volume is not mounted now."""
    if not await engine.on_disk(engine.volume.present):
        raise VolumeMissing(f"the volume that holds {engine.shelf.name} is not there")


class PlainRequest(aiohttp.ClientRequest):
    """A request that sends no password out of ~/.netrc: signed URLs break on it, and no server that
    a URL or a redirect names is to be told one."""

    def update_auth(self, auth: aiohttp.BasicAuth | None, _trust_env: bool = False) -> None:
        super().update_auth(auth, trust_env=False)


def open_session(trust: ssl.SSLContext) -> aiohttp.ClientSession:
    """A session that changes nothing of what it is sent: no decoding, no time-outs of its own (the
    fetcher watches progress), proxies from the environment."""
    return aiohttp.ClientSession(
        connector=bound_heads(aiohttp.TCPConnector(limit=0, ssl=trust)),
        request_class=PlainRequest,
        auto_decompress=False,
        trust_env=has_proxies(),
        read_bufsize=READ_BUFFER_BYTES,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
