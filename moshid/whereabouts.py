"""Where the model's files are, for its status: absent, downloading, or on disk (unloaded).

The use case that joins the downloads and the resident model: looked at whenever somebody asks, and
when a download begins or ends. It speaks of the model that was asked for last, else of the default
one. What a process holds, or failed to, is the residency's to say, not this one's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from moshid.downloads.service import DownloadService
from moshid.downloads.states import ACTIVE, JobState
from moshid.errors import BadCheckpoint, ModelNotFound
from moshid.events import Bus
from moshid.model import catalogue
from moshid.model.catalogue import OnDisk
from moshid.model.service import ModelService
from moshid.model.states import RESIDENT, State

log = logging.getLogger(__name__)

LOOK_S_MAX: Final = 2.0

UNDER_WAY: Final = ACTIVE | {JobState.QUEUED}
"""States of a job that goes on by itself."""


class Whereabouts:
    """A part of the daemon."""

    def __init__(
        self,
        default_model: str,
        bus: Bus,
        downloads: DownloadService,
        model: ModelService,
        *,
        patience_s: float = LOOK_S_MAX,
    ) -> None:
        """``patience_s``: how long one who asks waits for the disk."""
        self._default_model = default_model
        self._bus = bus
        self._downloads = downloads
        self._model = model
        self._patience_s = patience_s
        self._looking: asyncio.Task[None] | None = None

    async def run(self, *, started: asyncio.Event) -> None:
        """Watch until cancelled."""
        subscription = self._bus.subscribe(["download"])
        under_way: dict[str, bool] = {}
        try:
            started.set()
            await self._look_unasked()
            while True:
                job = (await subscription.take()).event.data.get("job", {"id": "", "state": ""})
                now = job["state"] in UNDER_WAY
                if under_way.get(job["id"]) != now:  # not for every piece that comes
                    under_way[job["id"]] = now
                    await self._look_unasked()
        finally:
            subscription.close()

    async def _look_unasked(self) -> None:
        """``look``; what goes wrong there is told, and no reason to end the daemon: it would end
        again at each start."""
        try:
            await self.look()
        except Exception:
            log.exception("where the model is cannot be told")

    async def look(self) -> None:
        """Have the status say what is so; or what was, where the disk does not say it in time. One
        thread at a time waits for a disk, however many ask."""
        if self._holds():
            return
        try:
            async with asyncio.timeout(self._patience_s):
                before = self._looking
                if before is not None:
                    await asyncio.wait({before})
                if self._looking is before:  # else somebody has begun one meanwhile
                    self._looking = asyncio.create_task(self._look())
                looking = self._looking
                assert looking is not None
                await asyncio.wait({looking})
                looking.result()
        except TimeoutError:
            log.warning("where the model is cannot be told: the disk stands still")

    async def _look(self) -> None:
        name = self._model.about or self._default_model
        try:
            repos = {job.repo for job in self._downloads.list() if job.state in UNDER_WAY}
            state = await asyncio.to_thread(of, name, self._downloads.on_disk, repos)
        except OSError as e:
            log.warning("where the model is cannot be told: %s", e)
            return
        if not self._holds():
            self._model.note_disk(state)

    def _holds(self) -> bool:
        """Whether the state is a process's, or tells of one that failed."""
        return self._model.state in RESIDENT or self._model.state is State.FAILED


def of(name: str, on_disk: OnDisk, coming: set[str]) -> State:
    """Where the model ``name`` is; ``coming``: repositories that are being downloaded. Reads the
    disk."""
    try:
        entry = catalogue.resolve(name)
        choice = catalogue.choose(entry, "auto", on_disk)
        if choice.on_disk:
            catalogue.locate(choice.repo, choice.quality, on_disk(choice.repo))
            return State.UNLOADED
    except BadCheckpoint:
        return State.UNLOADED  # it is there; what is wrong, a load says
    except ModelNotFound:
        pass  # a file of it is missing
    return State.DOWNLOADING if coming & _repos(name) else State.ABSENT


def _repos(name: str) -> set[str]:
    try:
        return set(catalogue.resolve(name).repos.values())
    except ModelNotFound:
        return set()
