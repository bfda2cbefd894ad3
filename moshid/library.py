"""A model by name: from the catalogue through the Hub and the cache to its files, and into memory.

The use case that joins catalogue, downloads, model and audio; none of them knows of the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moshid.audio.service import AudioService
from moshid.downloads.job import Job
from moshid.downloads.output import is_url
from moshid.downloads.service import DownloadService
from moshid.downloads.states import FINISHED, JobState
from moshid.errors import (
    BadCheckpoint,
    DownloadError,
    InvalidParams,
    ModelNotFound,
    MoshidError,
    TalkConfirm,
    from_data,
)
from moshid.events import Bus
from moshid.model import catalogue
from moshid.model.files import CheckpointPaths, qualities_on_disk
from moshid.model.service import ModelService
from moshid.model.states import State
from moshid.settings import Settings

log = logging.getLogger(__name__)


class Library:
    """Finds, fetches and loads models by name or Hub repository."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        downloads: DownloadService,
        model: ModelService,
        audio: AudioService,
    ) -> None:
        self._confirm_bytes = settings.talk_confirm_bytes
        self._bus = bus
        self._downloads = downloads
        self._model = model
        self._audio = audio

    async def choose(self, model: str, quality: str) -> catalogue.Choice:
        """Where a model of a quality comes from; ``auto`` keeps what is resident.

        Raises:
            ModelNotFound: no such model, or not in this quality.
        """
        resident = self._model.status()
        if quality == "auto" and resident["model"] == model and resident["quality"]:
            quality = str(resident["quality"])
        entry = catalogue.resolve(model)
        return await asyncio.to_thread(catalogue.choose, entry, quality, self.on_disk)

    async def fetch(
        self,
        model: str,
        quality: str = "auto",
        *,
        revision: str | None = None,
        files: Sequence[str] | None = None,
        profile: str = "auto",
        chunk_bytes: int | None = None,
        workers: int | None = None,
    ) -> tuple[Job, bool]:
        """Start the download of a model, or join the one that is there."""
        choice = await self.choose(model, quality)
        return await self._downloads.start(
            choice.repo,
            revision=revision or choice.revision,
            quality=choice.fetch,
            files=files,
            profile=profile,
            chunk_bytes=chunk_bytes,
            workers=workers,
        )

    async def find(self, model: str, quality: str = "auto") -> CheckpointPaths:
        """The files of a model that is on disk.

        Raises:
            ModelNotFound: it is not (completely) there.
            BadCheckpoint: its configuration is unreadable.
        """
        choice = await self.choose(model, quality)
        if not choice.on_disk:
            raise ModelNotFound(
                f"{model} is not on disk",
                hint=f"Fetch it: moshi-client download {model}.",
                repo=choice.repo,
                size_bytes=choice.size_bytes,
            )
        files = await asyncio.to_thread(self.on_disk, choice.repo)
        return catalogue.locate(choice.repo, choice.quality, files)

    async def ensure(
        self, model: str, quality: str, *, fetch: bool, confirmed: bool
    ) -> CheckpointPaths:
        """As ``find``; with ``fetch``, what is missing is downloaded first.

        Raises:
            TalkConfirm: it is over ``talk_confirm_bytes`` and the caller has not agreed yet.
            DownloadError: the download failed.
        """
        try:
            return await self.find(model, quality)
        except ModelNotFound:
            if not fetch:
                raise
        choice = await self.choose(model, quality)
        if choice.size_bytes is not None and not confirmed:
            self._ask(model, choice.quality, choice.size_bytes)
        self._model.note_disk(State.DOWNLOADING)
        try:
            await self._download(model, choice, confirmed=confirmed)
            return await self.find(model, choice.quality)
        finally:
            self._model.note_disk(State.UNLOADED)

    async def load(self, model: str, quality: str, *, wait: bool = True) -> dict[str, Any]:
        """Make a model that is on disk resident, and have the spare audio worker build its codec.

        Raises:
            ModelNotFound, BadCheckpoint, ModelOutOfMemory, TalkBusy: see there.
        """
        paths = await self.find(model, quality)
        status = await self._model.load(paths, model=model, quality=paths.quality, wait=False)
        self._audio.set_codec(paths.codec_spec())  # not before: a talk may have had it refused
        if not wait:
            return status
        return await self._model.load(paths, model=model, quality=paths.quality)

    async def repository(self, name: str) -> str:
        """What a job id, a model's name, a repository or a URL stands for in downloads.

        Raises:
            ModelNotFound: it can be none of them.
        """
        if is_url(name) or any(job.id == name for job in self._downloads.list()):
            return name
        catalogue.resolve(name)
        return name if "/" in name else (await self.choose(name, "auto")).repo

    async def overview(self) -> list[dict[str, Any]]:
        """The contract's ``model.list``: the catalogue, and what is on disk of it."""
        resident = self._model.status()["model"]
        return await asyncio.to_thread(self._overview, resident)

    def on_disk(self, repo: str) -> dict[str, Path]:
        """Path in the repository → file in the cache. Reads the disk."""
        return self._downloads.on_disk(repo)

    def _overview(self, resident: str | None) -> list[dict[str, Any]]:
        names = list(catalogue.CATALOGUE)
        named = {repo for e in catalogue.CATALOGUE.values() for repo in e.repos.values()}
        others = {job.repo for job in self._downloads.list() if not is_url(job.repo)} - named
        if resident is not None and resident not in names:
            others.add(resident)
        return [self._describe(name, resident) for name in [*names, *sorted(others)]]

    def _describe(self, name: str, resident: str | None) -> dict[str, Any]:
        entry = catalogue.resolve(name)
        have: list[str] = []
        disk_bytes = 0
        for repo in entry.repos.values():
            files = self.on_disk(repo)
            disk_bytes += sum(path.stat().st_size for path in files.values())
            try:
                have += qualities_on_disk(files)
            except BadCheckpoint as e:  # one bad repository may not hide the others
                log.warning("%s cannot be listed: %s", repo, e.message)
        return {
            "name": name,
            "repo": next(iter(entry.repos.values())),
            "repos": entry.repos,
            "description": entry.description,
            "qualities": entry.sizes_bytes,
            "on_disk": bool(have),
            "on_disk_qualities": list(dict.fromkeys(have)),
            "disk_bytes": disk_bytes,
            "loaded": name == resident,
        }

    async def _download(self, model: str, choice: catalogue.Choice, *, confirmed: bool) -> None:
        job, _created = await self._downloads.start(
            choice.repo, revision=choice.revision, quality=choice.fetch
        )
        if not confirmed:
            await self._confirm_job(model, choice.quality, job.id)
        job = await self._downloads.wait(job.id)
        if job.state is not JobState.DONE:
            raise _failure(job)

    async def _confirm_job(self, model: str, quality: str, job_id: str) -> None:
        """Wait until the job's size is known; too much of it is paused until the user agrees."""
        subscription = self._bus.subscribe(["download"])
        try:
            while (job := self._downloads.get(job_id)).state in (JobState.QUEUED, JobState.PROBING):
                await subscription.take()
        finally:
            subscription.close()
        missing_bytes = job.bytes_total - job.bytes_done
        if job.state not in FINISHED and missing_bytes > self._confirm_bytes:
            await self._downloads.pause(job_id)
            self._ask(model, quality, missing_bytes)

    def _ask(self, model: str, quality: str, size_bytes: int) -> None:
        """Have the user agree to a download of this size, if it is big."""
        if size_bytes > self._confirm_bytes:
            raise TalkConfirm(
                f"{model} ({quality}) is not on disk; it weighs {size_bytes / 1e9:.1f} GB",
                model=model,
                quality=quality,
                size_bytes=size_bytes,
            )


def _failure(job: Job) -> MoshidError:
    if job.error is None:
        return DownloadError(f"the download of {job.repo} was {job.state}")
    return from_data(job.error.message, {"kind": job.error.kind, "hint": job.error.hint})


def one_name(model: str | None, repo: str | None, default: str | None = None) -> str:
    """The model or repository that a call names.

    Raises:
        InvalidParams: both are given, or neither and there is no default.
    """
    if model is not None and repo is not None:
        raise InvalidParams("model and repo exclude each other: name one of them")
    name = model or repo or default
    if name is None:
        raise InvalidParams("name a model (a catalogue name) or a repo (org/name)")
    return name
