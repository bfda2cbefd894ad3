"""Quantised copies of bf16 weights on disk: their names, which is whose, which are of use.

They stand in one folder beside the Hub cache. Owns the copies' facts, which are in their header's
metadata; ``quantised_writer`` makes them. Knows no numerical library: the daemon lists and deletes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import xxhash

from moshid.errors import BadCheckpoint, ModelFilesGone
from moshid.model import safetensors_header
from moshid.model.qualities import GRIDS

FORMAT: Final = 1
"""Raise it when copies are made otherwise: older ones are then made again."""

FACTS: Final = "moshid"
"""The key of a copy's facts in its header's metadata."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LINKS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Source:
    """Weights that copies are made of. ``digest``: by which the Hub cache names them, their
    SHA-256; elsewhere one of path, size and time. Repaired content keeps the digest and has
    another time."""

    path: Path
    digest: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that stands in the folder. ``stale``: its source is gone or has changed, or it cannot
    be used for another reason."""

    path: Path
    size_bytes: int
    quality: str
    source: Path
    digests: dict[str, str]
    stale: bool


def folder_beside(cache: Path) -> Path:
    """Where the copies of the Hub cache ``cache`` stand: beside it, so that huggingface_hub's
    listing does not stumble over them; inside, among the locks, where beside is another volume or
    cannot be written."""
    beside = cache.parent
    try:
        same = beside.stat().st_dev == cache.stat().st_dev
    except OSError:
        same = True  # there is no cache yet, and so nothing to quantise
    if same and os.access(beside, os.W_OK):
        return beside / f"{cache.name}.moshid-quantised"
    return cache / ".locks" / "moshid-quantised"


def source_of(weights: Path) -> Source:
    """The facts of a weights file, through the Hub cache's links.

    Raises:
        BadCheckpoint: it is not there.
    """
    try:
        stat = weights.stat()
    except OSError as e:
        raise BadCheckpoint(f"{weights} cannot be read: {e.strerror}") from e
    path, digest = _followed(weights)
    if digest is None:
        path = weights.absolute()
        named = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
        digest = f"file-{hashlib.sha256(named.encode()).hexdigest()[:32]}"
    return Source(path, digest, stat.st_size, stat.st_mtime_ns)


def copy_path(folder: Path, source: Source, quality: str) -> Path:
    """Where the copy of ``source`` as ``quality`` belongs."""
    grid = GRIDS[quality]
    name = f"{source.digest}-{quality}-{grid.bits}x{grid.group_size}-v{FORMAT}.safetensors"
    return folder / name


def metadata_of(source: Source, quality: str, digests: dict[str, str]) -> dict[str, str]:
    """What a copy's header says of it. Its length depends on the digests' names alone."""
    facts = {
        "format": FORMAT,
        "quality": quality,
        "source": str(source.path),
        "size_bytes": source.size_bytes,
        "mtime_ns": source.mtime_ns,
        "digests": digests,
    }
    return {"format": "mlx", FACTS: json.dumps(facts)}


def find(folder: Path, source: Source, quality: str) -> Copy | None:
    """The copy of ``source`` as ``quality`` that can be used, if there is one."""
    path = copy_path(folder, source, quality)
    copy = _read(path) if os.path.isfile(path) else None
    return copy if copy is not None and not copy.stale and copy.quality == quality else None


def copies(folder: Path) -> list[Copy]:
    """All copies, also those that are of no use any more."""
    return [_read(path) for path in _in(folder, "*.safetensors") if os.path.isfile(path)]


def leftovers(folder: Path) -> Iterator[Path]:
    """What writers that were killed have left; a file that is being written is locked."""
    for path in _in(folder, "*.new"):
        if not _is_locked(path):
            yield path


def _in(folder: Path, pattern: str) -> list[Path]:
    """What is there; nothing, where a folder cannot be looked into (a dead network mount's)."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def digest(view: memoryview) -> str:
    """XXH3, 128 bits: tells a disk's fault at the speed of memory. Other threads go on."""
    hasher = xxhash.xxh3_128()
    hasher.update(view)
    return hasher.hexdigest()


def repo_of(copy: Copy) -> str | None:
    """The repository in the Hub cache that its source is a file of; None for one elsewhere."""
    folder = next((p for p in copy.source.parts if p.startswith("models--")), None)
    return None if folder is None else "/".join(folder.split("--")[1:3])


def belongs_to(copy: Copy, repo: str) -> bool:
    """Whether its source is a file of this repository in the Hub cache."""
    return f"models--{repo.replace('/', '--')}" in copy.source.parts


def listed(copies: Iterable[Copy], repos: Iterable[str]) -> list[dict[str, Any]]:
    """The copies that belong to one of these repositories, as ``model.list`` tells them."""
    named = set(repos)
    return [
        {"quality": c.quality, "bytes": c.size_bytes, "path": str(c.path)}
        for c in copies
        if any(belongs_to(c, repo) for repo in named)
    ]


def _read(path: Path) -> Copy:
    """A copy by its header; what cannot be read is stale."""
    size_bytes = 0
    try:
        size_bytes = path.stat().st_size
        facts = json.loads(safetensors_header.read(path).metadata[FACTS])
        source = Path(facts["source"])
        stat = source.stat()
        stale = (facts["size_bytes"], facts["mtime_ns"]) != (stat.st_size, stat.st_mtime_ns)
        stale = stale or facts["format"] != FORMAT
        quality, digests = str(facts["quality"]), dict(facts["digests"])
    except (BadCheckpoint, ModelFilesGone, OSError, ValueError, KeyError, TypeError):
        return Copy(path, size_bytes, "", Path(), {}, stale=True)
    return Copy(path, size_bytes, quality, source, digests, stale)


def _followed(weights: Path) -> tuple[Path, str | None]:
    """The Hub cache's blob that ``weights`` is or links to, and the digest that it is named by."""
    path = weights
    for _ in range(_LINKS_MAX):
        if path.parent.name == "blobs" and _SHA256.fullmatch(path.name):
            return Path(os.path.normpath(path.absolute())), path.name
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return weights, None


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
