"""Gives disk space back: whole repositories, old revisions, what unfinished downloads left.

Owns what may go: never what a running job is at, nor a file that the caller says is in use. While
it decides and deletes, no job of these repositories starts or stops. A job whose files go is
forgotten, before they do: the ledger never says more than the disk holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
from huggingface_hub import CachedRevisionInfo

from moshid.downloads import removal
from moshid.downloads.cache import Cache
from moshid.downloads.engine import Engine, check_present
from moshid.downloads.entries import Entries, Entry
from moshid.downloads.ledger import Ledger
from moshid.downloads.removal import Loose, Removal
from moshid.downloads.states import FileState, JobState
from moshid.downloads.steering import Steering
from moshid.errors import ModelInUse

log = logging.getLogger(__name__)

_OVER: Final = (JobState.DONE, JobState.CANCELLED)
"""States whose jobs want no bytes any more."""


class DeletedRevision(msgspec.Struct, frozen=True):
    """A revision that went, or would: its commit, and what it shows (shared content included)."""

    repo: str
    revision: str
    bytes: int


class DeletedFile(msgspec.Struct, frozen=True):
    """A partial file that went, or would: ``path`` is within the Hugging Face cache. Or a
    quantised copy, whose ``path`` is absolute."""

    path: str
    bytes: int


class SpaceReport(msgspec.Struct):
    """What went, or would; ``freed_bytes`` counts shared content once."""

    dry_run: bool
    deleted: list[DeletedRevision] = []
    files: list[DeletedFile] = []
    freed_bytes: int = 0


class Space:
    """Deletes from the cache below ``cache``; ``starting`` keeps new jobs out meanwhile."""

    def __init__(
        self,
        cache: Cache,
        entries: Entries,
        starting: asyncio.Lock,
        steering: Steering,
        engine: Callable[[], Engine],
    ) -> None:
        self._cache = cache
        self._entries = entries
        self._starting = starting
        self._steering = steering
        self._engine = engine

    async def delete(
        self, repos: Collection[str], *, in_use: Iterable[Path] = (), dry_run: bool = False
    ) -> SpaceReport | None:
        """Delete all that the cache holds of these repositories, and forget their jobs; None:
        there is nothing of them. ``in_use``: files that somebody reads.

        Raises:
            ModelInUse: a job is at work on one, somebody else is, or a file is in use.
            DownloadError: the cache does not let us.
        """
        return await self._steering.through(self._delete(repos, tuple(in_use), dry_run))

    async def prune(
        self, repos: Collection[str], *, in_use: Iterable[Path] = (), dry_run: bool = False
    ) -> SpaceReport:
        """Delete the revisions of these repositories that no ref names and no job is for, what
        huggingface_hub left of them half-fetched, blobs that nothing shows, and partial files that
        no job wants. What is in use or being fetched is left out.

        Raises:
            DownloadError: the cache does not let us.
        """
        return await self._steering.through(self._prune(repos, tuple(in_use), dry_run))

    async def _delete(
        self, repos: Collection[str], in_use: Sequence[Path], dry_run: bool
    ) -> SpaceReport | None:
        engine = self._engine()
        await check_present(engine)
        async with AsyncExitStack() as stack:
            entries = await self._hold(stack, repos)
            removals = await engine.on_disk(_whole, self._cache, repos)
            if not entries and not removals:
                return None
            for entry in entries:
                _refuse(entry.task is not None, entry.job.repo, "it is being downloaded")
            for r in removals:
                _refuse(any(_is_below(f, r.folder) for f in in_use), r.repo, "it is loaded")
                written = await engine.on_disk(removal.is_written, self._cache, r.repo)
                _refuse(written, r.repo, "another program is downloading it")
            partials = await self._partials_of(engine, entries)
            report = _report(self._cache, removals, partials, dry_run)
            if not dry_run:
                for entry in entries:
                    await self._entries.forget(engine, entry)
                await self._carry_out(engine, removals)
        return report

    async def _prune(
        self, repos: Collection[str], in_use: Sequence[Path], dry_run: bool
    ) -> SpaceReport:
        engine = self._engine()
        await check_present(engine)
        async with AsyncExitStack() as stack:
            entries = await self._hold(stack, repos)
            still = set(repos) - {e.job.repo for e in entries if e.task is not None}
            stays = await self._staying(engine, entries)

            def is_kept(revision: CachedRevisionInfo) -> bool:
                below = revision.snapshot_path
                return revision.commit_hash in stays or any(_is_below(f, below) for f in in_use)

            removals = await engine.on_disk(_old, self._cache, still, is_kept)
            loose = await self._loose(engine, still)
            if not dry_run:
                gone = {(r.repo, commit) for r in removals for commit, _bytes in r.revisions}
                for entry in entries:
                    if (entry.job.repo, entry.job.commit) in gone:
                        await self._entries.forget(engine, entry)
                await self._carry_out(engine, removals)
                loose = [file for file in loose if await self._remove(engine, file)]
            return _report(self._cache, removals, loose, dry_run)

    async def _hold(self, stack: AsyncExitStack, repos: Collection[str]) -> list[Entry]:
        """Keep these repositories' jobs as they are, until the stack is left."""
        await stack.enter_async_context(self._starting)
        entries = [e for e in self._entries.all() if e.job.repo in repos]
        for entry in entries:
            await stack.enter_async_context(entry.lock)
        return entries

    async def _staying(self, engine: Engine, entries: Sequence[Entry]) -> set[str]:
        """Commits that jobs are for: unfinished ones, and those that were asked for by commit."""
        stays = set()
        for entry in entries:
            asked_for = await engine.ledger.call(Ledger.refs, entry.job.id)
            pinned = entry.job.state is JobState.DONE and entry.job.commit in asked_for
            if pinned or entry.job.state not in _OVER:
                stays.add(entry.job.commit)
        return stays

    async def _partials_of(self, engine: Engine, entries: Sequence[Entry]) -> list[Loose]:
        """The partial files that go when these jobs are forgotten."""
        unfinished = [e for e in self._entries.all() if e.job.state not in _OVER]
        others = {f.digest for e in unfinished if e not in entries for f in e.job.files}
        files = [f for e in entries for f in e.job.files if f.state is not FileState.DONE]
        etags = sorted({f.digest for f in files} - others)
        return await engine.on_disk(removal.partials, self._cache, etags)

    async def _loose(self, engine: Engine, repos: Iterable[str]) -> list[Loose]:
        wanted = await engine.ledger.call(Ledger.etags_wanted_besides, "")
        known = {f.digest for e in self._entries.all() for f in e.job.files}
        loose = await engine.on_disk(removal.unwanted_partials, self._cache, wanted, known)
        for repo in sorted(repos):
            loose += await engine.on_disk(removal.orphans, self._cache, repo)
            loose += await engine.on_disk(removal.left_aside, self._cache, repo)
            loose += await engine.on_disk(removal.unshown, self._cache, repo, wanted | known)
        return loose

    async def _remove(self, engine: Engine, file: Loose) -> bool:
        """Delete one loose file; what the ledger knows of a partial one goes with it."""
        etag = file.path.stem
        async with engine.locks[etag]:
            if not await engine.on_disk(file.remove):
                return False
            if file.path.suffix == ".part":
                await engine.ledger.call(Ledger.forget_blob, etag)
        return True

    async def _carry_out(self, engine: Engine, removals: Sequence[Removal]) -> None:
        for r in removals:
            facts = {"repo": r.repo, "revisions": [commit for commit, _bytes in r.revisions]}
            log.info("deleting from the cache", extra=facts)
            await engine.on_disk(r.carry_out)


def _whole(cache: Cache, repos: Iterable[str]) -> list[Removal]:
    found = (removal.whole_repository(cache, repo) for repo in sorted(repos))
    return [r for r in found if r is not None]


def _old(
    cache: Cache, repos: Collection[str], is_kept: Callable[[CachedRevisionInfo], bool]
) -> list[Removal]:
    found = removal.scan(cache)
    infos = [found[r] for r in sorted(repos) if r in found and not removal.is_written(cache, r)]
    old = (removal.old_revisions(cache, info, is_kept) for info in infos)
    return [r for r in old if r is not None]


def _refuse(reason: bool, repo: str, why: str) -> None:
    if reason:
        raise ModelInUse(f"{repo} cannot be deleted: {why}", repo=repo)


def _is_below(file: Path, folder: Path) -> bool:
    return folder.resolve() in (file.parent.resolve() / file.name).parents


def _report(
    cache: Cache, removals: Iterable[Removal], files: Iterable[Loose], dry_run: bool
) -> SpaceReport:
    report = SpaceReport(dry_run)
    for r in removals:
        report.deleted += [DeletedRevision(r.repo, *revision) for revision in r.revisions]
        report.freed_bytes += r.freed_bytes
    for file in files:
        path = file.path.relative_to(cache.root).as_posix()
        report.files.append(DeletedFile(path, file.size_bytes))
        report.freed_bytes += file.size_bytes
    return report
