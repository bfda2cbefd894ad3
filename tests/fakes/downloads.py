"""A download service in a test: private home and cache, quick retries, the loopback Hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from moshid.downloads.hub import HubPlace
from moshid.downloads.job import Job
from moshid.downloads.opening import Parts
from moshid.downloads.profiles import PROFILES, Profile
from moshid.downloads.service import DownloadService
from moshid.events import Bus
from moshid.selection import FileGroup
from moshid.settings import Settings

QUICK: Mapping[str, Profile] = {
    name: replace(
        p,
        chunk_bytes=256 * 1024,
        stall_timeout_s=1.0,
        retry_first_s=0.01,
        retry_max_s=0.05,
    )
    for name, p in PROFILES.items()
}
"""The real profiles, with small chunks and short waits."""

PARTS = Parts(margin_bytes=0, poll_s=0.05, seed=1)


def select_parrot(config: dict[str, Any] | None, quality: str) -> list[FileGroup] | None:
    """Config, weights and tokenizer; everything, where there is no configuration."""
    if config is None:
        return None
    return [
        FileGroup(("config.json",)),
        FileGroup((f"model.{quality}.safetensors", "model.safetensors")),
        FileGroup(("tokenizer.model",)),
        FileGroup(("mimi.json",), optional=True),
    ]


def make_service(
    home: Path,
    endpoint: str,
    cache: Path,
    *,
    bus: Bus | None = None,
    profiles: Mapping[str, Profile] = QUICK,
    parts: Parts = PARTS,
    offline: bool = False,
    token: str | None = None,
    alternates: Sequence[str] = (),
    set_to: Mapping[str, Any] | None = None,
) -> DownloadService:
    """A service that is not running yet."""
    home.mkdir(parents=True, exist_ok=True)
    settings = Settings(
        home=home,
        socket=home / "s",
        download_progress_hz=50.0,
        download_endpoints=tuple(alternates),
        **(set_to or {}),
    )
    place = HubPlace(endpoint, cache, offline, token)
    return DownloadService(
        settings, bus or Bus(), select_parrot, place=place, profiles=profiles, parts=parts
    )


@asynccontextmanager
async def running(service: DownloadService) -> AsyncIterator[DownloadService]:
    """The service, running; a failure of it is raised here."""
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    waiting = asyncio.create_task(started.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield service
    finally:
        waiting.cancel()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(bus: Bus, holds: Callable[[Job], bool]) -> Job:
    """The first job picture on the bus for which ``holds``."""
    subscription = bus.subscribe(["download"])
    try:
        while True:
            taken = await subscription.take()
            job = msgspec.convert(taken.event.data["job"], Job)
            if holds(job):
                return job
    finally:
        subscription.close()
