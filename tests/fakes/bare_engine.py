"""The parts that transfers share, without a service around them: nothing is asked of any Hub."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from moshid.downloads.cache import Cache
from moshid.downloads.disk import DiskPool
from moshid.downloads.engine import Engine
from moshid.downloads.ledger import Blob, Ledger
from moshid.downloads.ledger_thread import LedgerThread
from moshid.downloads.offline import CacheHub
from moshid.downloads.volume import MountedVolume, mount_point_of


@asynccontextmanager
async def bare_engine(folder: Path, blob: Blob) -> AsyncIterator[Engine]:
    """An engine whose ledger and cache lie in ``folder``; the ledger knows of ``blob``."""
    ledger, disk, cache = LedgerThread(), DiskPool(1), Cache(folder)
    await ledger.open(folder / "ledger.db")
    await ledger.call(Ledger.set_blob, blob)
    async with aiohttp.ClientSession() as session:
        yield Engine(
            disk=disk,
            lines=disk,
            hashes=disk,
            counts=disk,
            ledger=ledger,
            shelf=cache,
            hub=CacheHub(cache),
            session=session,
            volume=MountedVolume(folder, mount_point_of(folder)),
            tallies=folder,
            boot_id="boot",
            rng=random.Random(1),
        )
    disk.close()
    await asyncio.to_thread(ledger.close)
