"""A model by name: from the catalogue through the Hub and the cache to its files, and into memory.

The use case that joins catalogue, downloads, model and audio; none of them knows of the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from moshid.audio.service import AudioService
from moshid.downloads.job import Job
from moshid.downloads.output import is_url
from moshid.downloads.service import DownloadService
from moshid.downloads.states import FINISHED, JobState
from moshid.downloads.terms import AS_THEY_ARE, Terms
from moshid.errors import (
    DownloadError,
    InvalidParams,
    ModelNotFound,
    MoshidError,
    TalkConfirm,
    from_data,
)
from moshid.events import Bus
from moshid.model import catalogue, listing, machine, memory, quantised_store
from moshid.model.auto import Verdicts
from moshid.model.files import CheckpointPaths
from moshid.model.service import ModelService
from moshid.model.states import RESIDENT, State
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
        self.verdicts = Verdicts(settings.verdicts, machine.here)
        self._decided: dict[tuple[str, str], catalogue.Choice] = {}
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
        there = self._model.state in RESIDENT and resident["model"] == model
        if quality == "auto" and there and resident["quality"]:
            quality = str(resident["quality"])
            if (decided := self._decided.get((model, quality))) is not None:
                return decided
        entry = catalogue.resolve(model)
        held_bytes = resident["memory_bytes"] or 0
        return await asyncio.to_thread(self._choose, entry, quality, held_bytes)

    def decision(self, model: str, quality: str) -> catalogue.Choice | None:
        """How ``auto`` came to load a model as this quality; None: it did not."""
        return self._decided.get((model, quality))

    async def fetch(
        self,
        model: str,
        quality: str = "auto",
        *,
        revision: str | None = None,
        files: Sequence[str] | None = None,
        profile: str | None = None,
        chunk_bytes: int | None = None,
        workers: int | None = None,
        terms: Terms = AS_THEY_ARE,
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
            terms=terms,
        )

    async def find(self, model: str, quality: str = "auto") -> CheckpointPaths:
        """The files of a model that is on disk.

        Raises:
            ModelNotFound: it is not (completely) there.
            BadCheckpoint: its configuration is unreadable.
        """
        choice = await self.choose(model, quality)
        if not choice.on_disk:
            flag = "" if quality == "auto" else f" --quality {quality}"
            raise ModelNotFound(
                catalogue.missing(model, quality, choice.held),
                hint=f"Fetch it: moshi-client download {model}{flag}.",
                repo=choice.repo,
                size_bytes=choice.size_bytes,
            )
        files = await asyncio.to_thread(self.on_disk, choice.repo)
        paths = catalogue.locate(choice.repo, choice.quality, files)
        await asyncio.to_thread(self._remember, choice, quality)
        self._took(model, choice, quality)
        folder = await asyncio.to_thread(quantised_store.folder_beside, self._downloads.cache_dir)
        return msgspec.structs.replace(paths, store=folder)

    async def ensure(
        self,
        model: str,
        quality: str,
        *,
        fetch: bool,
        confirmed: bool,
        before: Callable[[], Awaitable[None]],
    ) -> CheckpointPaths:
        """As ``find``; with ``fetch``, what is missing is downloaded first. Whatever ``before``
        raises keeps that from beginning.

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
        await before()
        self._model.note_disk(State.DOWNLOADING, model)  # ``whereabouts`` sees how it ends
        await self._download(model, choice, confirmed=confirmed)
        paths = await self.find(model, choice.quality)
        if quality == "auto":
            there = await self.choose(model, choice.quality)
            self._took(model, msgspec.structs.replace(there, reason=choice.reason), quality)
        return paths

    async def load(
        self,
        model: str,
        quality: str,
        *,
        wait: bool = True,
        keep_alive: str | float | None = None,
    ) -> dict[str, Any]:
        """Make a model that is on disk resident, and have the spare audio worker build its codec.

        Raises:
            ModelNotFound, BadCheckpoint, ModelOutOfMemory, TalkBusy: see there.
        """
        paths = await self.find(model, quality)
        status = await self._model.load(
            paths, model=model, quality=paths.quality, wait=False, keep_alive=keep_alive
        )
        self._audio.set_codec(paths.codec_spec())  # not before: a talk may have had it refused
        if not wait:
            return status
        return await self._model.load(paths, model=model, quality=paths.quality)

    async def repository(self, name: str) -> str:
        """What a job id, a model's name, a repository or a URL stands for in downloads.

        Raises:
            ModelNotFound: it can be none of them.
        """
        if is_url(name) or self._downloads.knows(name):
            return name
        catalogue.resolve(name)
        return name if "/" in name else (await self.choose(name, "auto")).repo

    async def overview(self) -> list[dict[str, Any]]:
        """The contract's ``model.list``: the catalogue, and what is on disk of it."""
        return await asyncio.to_thread(self._overview, self._model.status())

    def on_disk(self, repo: str) -> dict[str, Path]:
        """Path in the repository → file in the cache. Reads the disk."""
        return self._downloads.on_disk(repo)

    def _choose(self, entry: catalogue.Entry, quality: str, held_bytes: int) -> catalogue.Choice:
        """``held_bytes``: what the resident model would give back. Reads the disk."""
        return catalogue.choose(entry, quality, self.on_disk, situation=self._situation(held_bytes))

    def _took(self, model: str, choice: catalogue.Choice, asked: str) -> None:
        """Remember what was chosen, and say why."""
        if asked == "auto":
            self._decided[model, choice.quality] = choice
        self._model.explain(model, choice.quality, choice.reason)

    def _remember(self, choice: catalogue.Choice, asked: str) -> None:
        """So that ``auto`` takes the same the next time."""
        if asked == "auto" and choice.lasting is not None:
            try:
                self.verdicts.note_chosen(choice.name, choice.lasting)
            except OSError as e:
                log.warning("what auto took is not kept: %s", e.strerror)

    def _situation(self, held_bytes: int) -> catalogue.Situation:
        """Asks the system."""
        free_bytes = memory.free_bytes()
        if free_bytes is not None:
            free_bytes += held_bytes
        return catalogue.Situation(
            machine.here(), free_bytes, self.verdicts.of, self.verdicts.chosen
        )

    def _overview(self, status: dict[str, Any]) -> list[dict[str, Any]]:
        names = list(catalogue.CATALOGUE)
        named = {repo for e in catalogue.CATALOGUE.values() for repo in e.repos.values()}
        others = {job.repo for job in self._downloads.list() if not is_url(job.repo)} - named
        if status["model"] is not None and status["model"] not in names:
            others.add(status["model"])
        copies = quantised_store.copies(quantised_store.folder_beside(self._downloads.cache_dir))
        situation = self._situation(status["memory_bytes"] or 0)
        loaded = status["model"] if status["state"] in (State.READY, State.BUSY) else None
        return [
            listing.describe(name, loaded, self.on_disk, copies, situation)
            for name in [*names, *sorted(others)]
        ]

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
                hint="Answer with --yes (confirm: true), or fetch it first: "
                f"moshi-client download {model} --quality {quality}.",
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
