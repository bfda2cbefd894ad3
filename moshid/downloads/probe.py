"""Turns what a caller wants into files with digests and sizes, by asking the Hub.

Owns the order of the questions: config.json first, then each file by HEAD on /resolve; the listing
only where nobody knows which files make up the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from moshid.downloads.hub import Absent, Hub, RemoteFile
from moshid.downloads.ledger import Want
from moshid.downloads.source import Patience
from moshid.errors import DigestMismatch, DownloadError, DownloadNetwork, DownloadNotFound
from moshid.selection import FileGroup, FileSelector

CONFIG: Final = "config.json"
QUESTIONS_AT_ONCE: Final = 8
NAMED_MAX: Final = 64
"""So many named files are asked for before there is a job; more are looked up in the listing."""

WRONG_MAX: Final = 4
"""So often may the configuration arrive otherwise than described; then it is the server's."""


async def resolve(hub: Hub, repo: str, revision: str) -> str:
    """The commit that a revision is at now.

    Raises:
        DownloadError: the Hub has no such thing, or cannot be asked.
    """
    found = await hub.head(repo, revision, CONFIG)
    if found.commit is not None:
        return found.commit
    return (await hub.listing(repo, revision)).commit


async def check_named(hub: Hub, repo: str, commit: str, paths: Sequence[str]) -> None:
    """Whether files that are named are there, before a job that others wait for takes them up.

    Raises:
        DownloadNotFound: there is no such file; the message names it.
        DownloadError: the Hub cannot be asked.
    """
    few, paths = asyncio.Semaphore(QUESTIONS_AT_ONCE), await _in_doubt(hub, repo, commit, paths)

    async def check(path: str) -> None:
        async with few:
            if isinstance(await hub.head(repo, commit, path), Absent):
                raise DownloadNotFound(f"{repo} has no {path}")

    checks = [asyncio.create_task(check(path)) for path in paths]
    try:
        await asyncio.gather(*checks)
    finally:
        for task in checks:
            task.cancel()
        await asyncio.gather(*checks, return_exceptions=True)


async def _in_doubt(hub: Hub, repo: str, commit: str, paths: Sequence[str]) -> Sequence[str]:
    """What is to be asked for by name, a few at a time: all, or, of many, some of those that the
    listing lacks; where there is none, the job finds out about the rest."""
    if len(paths) <= NAMED_MAX:
        return paths
    try:
        listed = set((await hub.listing(repo, commit)).paths)
    except DownloadNetwork:
        raise
    except DownloadError:
        listed = set()
    return [p for p in paths if p not in listed][:NAMED_MAX]


class Prober:
    """Asks patiently: only a real answer of the Hub ends a probe."""

    def __init__(self, hub: Hub, select: FileSelector, patience: Patience) -> None:
        self._hub = hub
        self._select = select
        self._patience = patience
        self._few = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def commit(self, repo: str, revision: str) -> str:
        """The commit that a revision is at now."""
        return await self._patience.insist(lambda: resolve(self._hub, repo, revision))

    async def files(self, repo: str, commit: str, want: Want) -> list[RemoteFile]:
        """The files that ``want`` means at this commit.

        Raises:
            DownloadNotFound: a named file, or all candidates for a needed one, do not exist.
            DownloadError: as the Hub answers.
        """
        if want.files:
            groups: Sequence[FileGroup] | None = [FileGroup((f,)) for f in want.files]
        else:
            groups = self._select(await self._config(repo, commit), want.quality)
        if groups is None:
            listing = await self._patience.insist(lambda: self._hub.listing(repo, commit))
            groups = [FileGroup((p,)) for p in listing.paths]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._first(repo, commit, g)) for g in groups]
        found = {f.path: f for f in (t.result() for t in asked) if f is not None}
        return list(found.values())

    async def _config(self, repo: str, commit: str) -> dict[str, Any] | None:
        """Asks for its place anew whenever it does not arrive: a signed URL lives for a while."""
        wrong = 0

        async def ask() -> dict[str, Any] | None:
            nonlocal wrong
            found = await self._hub.head(repo, commit, CONFIG)
            try:
                return None if isinstance(found, Absent) else await self._hub.config(found, repo)
            except DigestMismatch as e:
                wrong += 1
                if wrong >= WRONG_MAX:
                    raise
                raise DownloadNetwork(e.message) from e

        return await self._patience.insist(ask)

    async def _first(self, repo: str, commit: str, group: FileGroup) -> RemoteFile | None:
        for path in group.candidates:
            found = await self._head(repo, commit, path)
            if isinstance(found, RemoteFile):
                return found
        if group.optional:
            return None
        raise DownloadNotFound(f"{repo} has no {' and no '.join(group.candidates)}")

    async def _head(self, repo: str, commit: str, path: str) -> RemoteFile | Absent:
        async with self._few:
            return await self._patience.insist(lambda: self._hub.head(repo, commit, path))
