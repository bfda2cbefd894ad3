"""What a folder of repositories looks like as a Hub: files, digests, the commit, the listing.

Owns the rules by which a Hub names content: LFS files by their SHA-256, small ones by their git
blob id. Layout: ``ROOT/<org>/<name>/<files>``; each repository has one revision, ``main``.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

LFS_BYTES_MIN: Final = 10 * 1024 * 1024
"""A Hub refuses larger files unless they are LFS objects."""

_GITATTRIBUTES: Final = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack "
    "*.npy *.npz *.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors *.tar "
    "*.tar.* *.tflite *.tgz *.wasm *.xz *.zip *.zst *tfevents* *.gguf"
)
"""What the ``.gitattributes`` that the Hub writes into a new repository lists."""

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a repository. ``etag`` is 64 hex digits for LFS, 40 for a git blob."""

    path: str
    file: Path
    size: int
    sha256: str
    git_sha1: str
    lfs: bool

    @property
    def etag(self) -> str:
        """The digest that names the content in the cache."""
        return self.sha256 if self.lfs else self.git_sha1

    def listing(self, *, blobs: bool) -> dict[str, Any]:
        """The file as ``/api/models`` lists it."""
        listed: dict[str, Any] = {"rfilename": self.path}
        if blobs:
            pointer = lfs_pointer(self.sha256, self.size)
            blob_id = git_blob_id(pointer) if self.lfs else self.git_sha1
            listed |= {"size": self.size, "blobId": blob_id}
        if blobs and self.lfs:
            listed["lfs"] = {"sha256": self.sha256, "size": self.size, "pointerSize": len(pointer)}
        return listed


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository at its one commit (40 hex digits, made from the files' names and digests)."""

    name: str
    commit: str
    entries: dict[str, Entry]

    def info(self, *, blobs: bool, gated: bool) -> dict[str, Any]:
        """What ``/api/models/{repo}/revision/{rev}`` answers."""
        return {
            "_id": self.commit[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.name.split("/")[0],
            "sha": self.commit,
            "lastModified": "2024-09-18T00:00:00.000Z",
            "createdAt": "2024-09-18T00:00:00.000Z",
            "private": False,
            "gated": "auto" if gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [e.listing(blobs=blobs) for e in self.entries.values()],
        }


class Stamp(NamedTuple):
    """What changes when a file does; ``time_ns``: of its last change."""

    file: str
    size: int
    time_ns: int


class RepoFolder:
    """Reads repositories below ``root``; digests are computed once per file, size and time, and
    what they make up once for all of them: thousands of files are asked for one by one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._entries: dict[str, tuple[Stamp, Entry]] = {}
        self._repos: dict[str, tuple[list[Stamp], Repo]] = {}

    def load(self, name: str) -> Repo | None:
        """The repository ``org/name``, or None. Blocking: it may hash gigabytes the first time."""
        parts = PurePosixPath(name).parts
        if len(parts) != 2 or any(p.startswith(".") for p in parts):
            return None
        folder = self._root.joinpath(*parts)
        if not folder.is_dir():
            return None
        stamps = sorted(_stamps(folder))
        known = self._repos.get(name)
        if known is not None and known[0] == stamps:
            return known[1]
        entries = {e.path: e for e in (self._entry(folder, s) for s in stamps)}
        listing = "\n".join(f"{e.etag} {e.path}" for e in entries.values())
        commit = hashlib.sha1(f"{name}\n{listing}".encode(), usedforsecurity=False).hexdigest()
        repo = Repo(name, commit, entries)
        self._repos[name] = stamps, repo
        return repo

    def _entry(self, folder: Path, stamp: Stamp) -> Entry:
        known = self._entries.get(stamp.file)
        if known is None or known[0] != stamp:
            file = Path(stamp.file)
            entry = _digest(file.relative_to(folder).as_posix(), file, stamp.size)
            known = self._entries[stamp.file] = (stamp, entry)
        return known[1]


def is_lfs(path: str, size_bytes: int) -> bool:
    """Whether the Hub keeps a file of this name and size as an LFS object."""
    name = PurePosixPath(path).name
    return size_bytes > LFS_BYTES_MIN or any(fnmatch(name, p) for p in _GITATTRIBUTES.split())


def git_blob_id(content: bytes) -> str:
    """The SHA-1 by which git names a blob of this content."""
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size_bytes: int) -> bytes:
    """The text that git stores in place of an LFS object."""
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size_bytes}\n"
    return text.encode()


def _stamps(folder: Path) -> Iterator[Stamp]:
    for at, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(at, name)
            try:
                found = os.stat(file)
            except FileNotFoundError:
                continue  # it was replaced just now, or leads nowhere
            if stat.S_ISREG(found.st_mode):
                yield Stamp(file, found.st_size, found.st_mtime_ns)


def _digest(path: str, file: Path, size: int) -> Entry:
    sha256 = hashlib.sha256()
    git_sha1 = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as content:
        while piece := content.read(_READ_BYTES):
            sha256.update(piece)
            git_sha1.update(piece)
    lfs = is_lfs(path, size)
    return Entry(path, file, size, sha256.hexdigest(), git_sha1.hexdigest(), lfs)
