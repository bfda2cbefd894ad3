"""Disk space back, by a model's name: from the catalogue to repositories, and those to deletion.

The use case that joins catalogue, downloads and the resident model, which is never touched.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from moshid.downloads.output import is_url
from moshid.downloads.service import DownloadService
from moshid.downloads.space import SpaceReport
from moshid.errors import InvalidParams, ModelNotFound
from moshid.model import catalogue
from moshid.model.files import qualities_on_disk
from moshid.model.service import ModelService
from moshid.model.states import RESIDENT


class Disposal:
    """Deletes models, and what is old or left over."""

    def __init__(self, downloads: DownloadService, model: ModelService) -> None:
        self._downloads = downloads
        self._model = model

    async def delete(
        self, model: str, quality: str = "auto", *, dry_run: bool = False
    ) -> SpaceReport:
        """Delete a model's repositories from the cache; with a ``quality``, the one it is in.

        Raises:
            ModelNotFound: no such model, or nothing of it is on disk.
            ModelInUse: it is loaded, or being downloaded.
            InvalidParams: the repository holds other qualities as well.
        """
        entry = catalogue.resolve(model)
        repos = list(entry.repos.values())
        if quality != "auto":
            repos = [await asyncio.to_thread(self._alone, entry, quality)]
        report = await self._downloads.space.delete(repos, in_use=self._in_use(), dry_run=dry_run)
        if report is None:
            raise ModelNotFound(
                f"nothing of {model} is on disk", hint="List what is: moshi-client models."
            )
        return report

    async def prune(self, *, dry_run: bool = False) -> SpaceReport:
        """Delete what is old or left over in the repositories of the catalogue and of jobs."""
        repos = {repo for e in catalogue.CATALOGUE.values() for repo in e.repos.values()}
        repos |= {job.repo for job in self._downloads.list() if not is_url(job.repo)}
        return await self._downloads.space.prune(repos, in_use=self._in_use(), dry_run=dry_run)

    def _alone(self, entry: catalogue.Entry, quality: str) -> str:
        """The repository that holds this quality and no other. Reads the disk."""
        repo = entry.repos.get(quality)
        if repo is None:
            raise ModelNotFound(
                f"{entry.name} has no repository for {quality}",
                hint=f"It has: {', '.join(entry.repos)}.",
            )
        have = qualities_on_disk(self._downloads.on_disk(repo))
        if set(have) - {quality}:
            raise InvalidParams(f"{repo} holds {' and '.join(have)}: delete it without a quality")
        return repo

    def _in_use(self) -> list[Path]:
        """The weights that the resident model, or the one on its way, was made of."""
        status = self._model.status()
        resident = self._model.state in RESIDENT and status["weights"] is not None
        return [Path(status["weights"])] if resident else []
