"""A Hub made of the cache alone, for HF_HUB_OFFLINE: what is there can be checked and used."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from moshid.downloads.cache import Cache
from moshid.downloads.hub import Absent, Listing, RemoteFile
from moshid.errors import DownloadOffline


class CacheHub:
    """Answers from the cached snapshots; never touches the network."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def head(self, repo: str, revision: str, path: str) -> RemoteFile | Absent:
        """A cached file's digest and size, from its blob."""
        commit, files = await asyncio.to_thread(self._snapshot, repo, revision)
        file = files.get(path)
        etag = await asyncio.to_thread(self._cache.etag_of, file) if file else ""
        if file is None or not etag:
            return Absent(commit)
        size = (await asyncio.to_thread(file.stat)).st_size
        return RemoteFile(path, commit, etag, size, location="", asked="")

    async def config(self, file: RemoteFile, repo: str) -> dict[str, Any] | None:
        """A cached JSON file's content."""
        _commit, files = await asyncio.to_thread(self._snapshot, repo, file.commit)
        try:
            parsed = json.loads(await asyncio.to_thread(files[file.path].read_bytes))
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, dict) else None

    async def listing(self, repo: str, revision: str) -> Listing:
        """What the snapshot holds; the repository may have more."""
        commit, files = await asyncio.to_thread(self._snapshot, repo, revision)
        return Listing(commit, tuple(files))

    async def headers(self, url: str) -> dict[str, str]:
        """There is nothing to fetch from."""
        raise DownloadOffline(f"HF_HUB_OFFLINE forbids to fetch anything{url and ': '}{url}")

    def _snapshot(self, repo: str, revision: str) -> tuple[str, dict[str, Path]]:
        commit = self._cache.commit_of(repo, revision)
        if commit is None:
            raise DownloadOffline(f"HF_HUB_OFFLINE is set, and {repo} is not in the cache")
        return commit, self._cache.files(repo, commit)
