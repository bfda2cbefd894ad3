"""Disk space back, by a model's name: from the catalogue to repositories and quantised copies, and
those to deletion.

The use case that joins catalogue, downloads and the resident model, which is never touched. A copy
may always go: it is made again when it is wanted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from moshid.downloads.output import is_url
from moshid.downloads.service import DownloadService
from moshid.downloads.space import DeletedFile, SpaceReport
from moshid.errors import InvalidParams, ModelNotFound
from moshid.model import catalogue, quantised_store
from moshid.model.files import qualities_on_disk
from moshid.model.quantised_store import Copy
from moshid.model.service import ModelService
from moshid.model.states import RESIDENT

log = logging.getLogger(__name__)


class Disposal:
    """Deletes models, and what is old or left over."""

    def __init__(self, downloads: DownloadService, model: ModelService) -> None:
        self._downloads = downloads
        self._model = model

    async def delete(
        self, model: str, quality: str = "auto", *, dry_run: bool = False
    ) -> SpaceReport:
        """Delete a model's repositories from the cache, and the quantised copies of what is in
        them; with a ``quality``, the repository and the copies of that one.

        Raises:
            ModelNotFound: no such model, or nothing of it is on disk.
            ModelInUse: it is loaded, or being downloaded.
            InvalidParams: the repository holds other qualities as well.
        """
        entry = catalogue.resolve(model)
        repos = list(entry.repos.values())
        copies = await asyncio.to_thread(self._copies_of, repos, quality)
        if quality != "auto":
            repos = await asyncio.to_thread(self._alone, entry, quality, has_copies=bool(copies))
        report = await self._downloads.space.delete(repos, in_use=self._in_use(), dry_run=dry_run)
        if report is None and not copies:
            what = await asyncio.to_thread(self._missing, entry, quality)
            raise ModelNotFound(what, hint="List what is: moshi-client models.")
        report = report or SpaceReport(dry_run)
        await asyncio.to_thread(_give_up, copies, report)
        return report

    async def prune(self, *, dry_run: bool = False) -> SpaceReport:
        """Delete what is old or left over in the repositories of the catalogue and of jobs, and
        quantised copies that are of no use any more, or beside their quality's own file."""
        repos = {repo for e in catalogue.CATALOGUE.values() for repo in e.repos.values()}
        repos |= {job.repo for job in self._downloads.list() if not is_url(job.repo)}
        report = await self._downloads.space.prune(repos, in_use=self._in_use(), dry_run=dry_run)
        await asyncio.to_thread(self._prune_copies, report)
        return report

    def _copies_of(self, repos: Sequence[str], quality: str) -> list[Path]:
        return [
            copy.path
            for copy in quantised_store.copies(self._copies_folder())
            if quality in ("auto", copy.quality)
            and any(quantised_store.belongs_to(copy, repo) for repo in repos)
        ]

    def _missing(self, entry: catalogue.Entry, quality: str) -> str:
        """What to say of a model of which there is nothing to delete. Reads the disk."""
        if quality != "auto" and (have := catalogue.held(entry, self._downloads.on_disk)):
            return catalogue.missing(entry.name, quality, have)
        return f"nothing of {entry.name} is on disk"

    def _prune_copies(self, report: SpaceReport) -> None:
        folder = self._copies_folder()
        copies = quantised_store.copies(folder)
        useless = [copy.path for copy in copies if copy.stale or self._is_superfluous(copy)]
        _give_up([*useless, *quantised_store.leftovers(folder)], report)

    def _is_superfluous(self, copy: Copy) -> bool:
        """Whether the quality's own file is on disk, too, which is taken before a copy; a copy of
        what is loaded stays. Reads the disk."""
        if copy.source.resolve() in {path.resolve() for path in self._in_use()}:
            return False
        repo = quantised_store.repo_of(copy)
        entries = [e for e in catalogue.CATALOGUE.values() if repo in e.repos.values()]
        owns = {e.repos[copy.quality] for e in entries if copy.quality in e.repos}
        return any(
            copy.quality in qualities_on_disk(self._downloads.on_disk(own))
            for own in owns | ({repo} if repo else set())
        )

    def _copies_folder(self) -> Path:
        return quantised_store.folder_beside(self._downloads.cache_dir)

    def _alone(self, entry: catalogue.Entry, quality: str, *, has_copies: bool) -> list[str]:
        """The repository that holds this quality and no other; none, where only copies are of it.
        Reads the disk."""
        repo = entry.repos.get(quality)
        if has_copies and (repo is None or not self._downloads.on_disk(repo)):
            return []
        if repo is None:
            raise ModelNotFound(
                f"{entry.name} has no repository for {quality}",
                hint=f"It has: {', '.join(entry.repos)}.",
            )
        have = qualities_on_disk(self._downloads.on_disk(repo))
        if set(have) - {quality}:
            raise InvalidParams(f"{repo} holds {' and '.join(have)}: delete it without a quality")
        return [repo]

    def _in_use(self) -> list[Path]:
        """The weights that the resident model, or the one on its way, was made of."""
        status = self._model.status()
        resident = self._model.state in RESIDENT and status["weights"] is not None
        return [Path(status["weights"])] if resident else []


def _give_up(files: Iterable[Path], report: SpaceReport) -> None:
    """Delete copies, or only say that they would go. One that cannot be deleted stays, and is not
    told: the others go all the same."""
    for file in files:
        try:
            size_bytes = file.stat().st_size
            if not report.dry_run:
                file.unlink()
        except FileNotFoundError:
            continue  # somebody else was faster
        except OSError as e:
            log.warning("%s is not deleted: %s", file, e.strerror)
            continue
        report.files.append(DeletedFile(str(file), size_bytes))
        report.freed_bytes += size_bytes
