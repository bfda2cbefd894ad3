"""Opens what the downloads need, and closes it again in the right order. The one place that wires
threads, ledger, Hub, session and volume together."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from moshid.downloads.alternates import Alternates, Endpoint
from moshid.downloads.boot import boot_id
from moshid.downloads.cache import Cache
from moshid.downloads.certificates import trusting_as_named
from moshid.downloads.disk import DiskPool
from moshid.downloads.engine import Engine, open_session
from moshid.downloads.hub import HfHub, Hub, HubPlace
from moshid.downloads.ledger_thread import LedgerThread
from moshid.downloads.limits import Limits
from moshid.downloads.line import Clocks, Line
from moshid.downloads.mounts import known_mount
from moshid.downloads.offline import CacheHub
from moshid.downloads.profiles import MIB
from moshid.downloads.volume import MountedVolume, Volume
from moshid.errors import DownloadError
from moshid.settings import Settings

LINE_THREADS: Final = max(2, min(8, os.cpu_count() or 2))
"""Who takes bodies off fast lines: no more than can run at once, they only wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Seams and numbers that tests set otherwise. ``margin_bytes``: the most room that is left
    to others on the cache's volume; ``poll_s``: how often a paused job looks if it may go on;
    ``stuck_s``: a job that gets nowhere for so long lets another have its turn."""

    cache: Callable[[Path], Cache] = Cache
    volume: Callable[[Path, Path], Volume] = MountedVolume
    boot_id: Callable[[], str] = boot_id
    margin_bytes: int = 64 * MIB
    poll_s: float = 5.0
    jobs_at_once: int = 2
    stuck_s: float = 10.0
    clocks: Clocks = field(default_factory=Clocks)
    seed: int | None = None


def open_line(limits: Limits, parts: Parts) -> Line:
    """The line that the jobs share."""
    return Line(
        limits,
        jobs_at_once=parts.jobs_at_once,
        stuck_s=parts.stuck_s,
        poll_s=min(1.0, parts.poll_s),
        clocks=parts.clocks,
    )


@asynccontextmanager
async def open_engine(
    settings: Settings, place: HubPlace, cache: Cache, parts: Parts
) -> AsyncIterator[Engine]:
    """The engine, until the block is left.

    Raises:
        LedgerTooNew, LedgerBroken: the ledger cannot be used.
        DownloadError: nor can the cache's path.
    """
    _check_path(cache.root)
    async with AsyncExitStack() as stack:
        ledger = LedgerThread()
        stack.push_async_callback(asyncio.to_thread, ledger.close)
        await ledger.open(settings.ledger)
        disk, lines = DiskPool(), DiskPool(LINE_THREADS, name="line")
        hashes = DiskPool(2, name="hash", modest=False)
        counts = DiskPool(1, name="tally")
        for pool in (disk, lines, hashes, counts):
            stack.push_async_callback(asyncio.to_thread, pool.close)
        rng = random.Random(parts.seed)
        hub = _hub(place, settings.download_endpoints, cache, rng, stack)
        trust = await disk.run(trusting_as_named, os.environ)
        session = await stack.enter_async_context(open_session(trust))
        yield Engine(
            disk=disk,
            lines=lines,
            hashes=hashes,
            counts=counts,
            ledger=ledger,
            shelf=cache,
            hub=hub,
            session=session,
            volume=parts.volume(cache.root, await known_mount(ledger, disk, cache.root)),
            tallies=settings.home / "tallies",
            boot_id=await disk.run(parts.boot_id),
            rng=rng,
            offline=place.offline,
        )


def _check_path(root: Path) -> None:
    try:
        str(root).encode()
    except UnicodeEncodeError as e:
        raise DownloadError(
            f"the path of the Hugging Face cache is no UTF-8: {os.fsencode(root)!r}",
            hint="Give HF_HUB_CACHE, or HF_HOME, a path that is.",
        ) from e


def _hub(
    place: HubPlace,
    alternates: Sequence[str],
    cache: Cache,
    rng: random.Random,
    stack: AsyncExitStack,
) -> Hub:
    if place.offline:
        return CacheHub(cache)
    endpoints = []
    for name in dict.fromkeys((place.endpoint, *alternates)):
        hub = HfHub(place if name == place.endpoint else place.at(name))
        stack.callback(hub.close)
        endpoints.append(Endpoint.of(name, hub, rng))
    return Alternates(endpoints)
