"""Opens what the downloads need, and closes it again in the right order. The one place that wires
threads, ledger, Hub, session and volume together."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from moshid.downloads.boot import boot_id
from moshid.downloads.cache import Cache
from moshid.downloads.disk import DiskPool
from moshid.downloads.engine import Engine, open_session
from moshid.downloads.hub import HfHub, Hub, HubPlace
from moshid.downloads.ledger import Ledger
from moshid.downloads.ledger_thread import LedgerThread
from moshid.downloads.offline import CacheHub
from moshid.downloads.profiles import MIB
from moshid.downloads.volume import MountedVolume, Volume, mount_point_of
from moshid.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Seams and numbers that tests set otherwise. ``margin_bytes``: the most room that is left
    to others on the cache's volume; ``poll_s``: how often a paused job looks if it may go on."""

    volume: Callable[[Path, Path], Volume] = MountedVolume
    boot_id: Callable[[], str] = boot_id
    margin_bytes: int = 64 * MIB
    poll_s: float = 5.0
    jobs_at_once: int = 2
    seed: int | None = None


@asynccontextmanager
async def open_engine(
    settings: Settings, place: HubPlace, cache: Cache, parts: Parts
) -> AsyncIterator[Engine]:
    """The engine, until the block is left.

    Raises:
        LedgerTooNew, LedgerBroken: the ledger cannot be used.
    """
    async with AsyncExitStack() as stack:
        ledger = LedgerThread()
        stack.push_async_callback(asyncio.to_thread, ledger.close)
        await ledger.open(settings.ledger)
        disk = DiskPool()
        stack.push_async_callback(asyncio.to_thread, disk.close)
        hub = _hub(place, cache, stack)
        ca_file = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        session = await stack.enter_async_context(open_session(ca_file))
        yield Engine(
            disk=disk,
            ledger=ledger,
            shelf=cache,
            hub=hub,
            session=session,
            volume=parts.volume(cache.root, await _mount_point(ledger, disk, cache.root)),
            tallies=settings.home / "tallies",
            boot_id=await disk.run(parts.boot_id),
            rng=random.Random(parts.seed),
            offline=place.offline,
        )


def _hub(place: HubPlace, cache: Cache, stack: AsyncExitStack) -> Hub:
    if place.offline:
        return CacheHub(cache)
    hub = HfHub(place)
    stack.callback(hub.close)
    return hub


async def _mount_point(ledger: LedgerThread, disk: DiskPool, folder: Path) -> Path:
    """Where the cache's volume was mounted when this ledger first saw it."""
    key = f"mount:{folder}"
    known = await ledger.call(Ledger.meta, key)
    if known is not None:
        return Path(known)
    found = await disk.run(mount_point_of, folder)
    await ledger.call(Ledger.set_meta, key, str(found))
    return found
