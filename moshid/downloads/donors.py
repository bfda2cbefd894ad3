"""Where bytes of a blob may lie on this machine already. Owns what to look for, and where.

What huggingface_hub left or holds in the same cache, and what the user names: files, other caches,
folders of numbered pieces. Only looks; whether the bytes are right is for others to find out. All
functions are blocking.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moshid.downloads import numbered
from moshid.errors import ABSOLUTE_PATH, InvalidParams

DONORS_MAX: Final = 16
"""So many are looked into for one blob, the likeliest first."""

FILES_MAX: Final = 20_000
"""So many files of a folder that the user names are looked at."""

PART_BYTES_MIN: Final = 64 * 1024
"""Less than this of a larger blob is not worth a look."""

_UNFINISHED: Final = (".incomplete", ".part")


@dataclass(frozen=True, slots=True)
class Part:
    """A file that may hold ``size`` bytes of a blob from ``offset`` on."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Donor:
    """Files that may give bytes of a blob, by offset. ``whole``: one file of the blob's size that
    does not call itself unfinished."""

    path: Path
    parts: tuple[Part, ...]
    whole: bool = False

    def part_at(self, at: int) -> Part | None:
        """The part that may hold the byte at ``at``."""
        index = bisect_right(self.parts, at, key=lambda p: p.offset) - 1
        if index < 0 or at >= self.parts[index].offset + self.parts[index].size:
            return None
        return self.parts[index]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The blob: its digest, its size, and the names of the files that show it."""

    etag: str
    size: int
    names: tuple[str, ...]


def in_cache(root: Path, blob: Path, wanted: Wanted) -> list[Donor]:
    """What a Hugging Face cache holds of the blob besides ``blob`` itself: the same content of
    another repository, ``<etag>.incomplete`` and, from huggingface_hub 1.18 on,
    ``<etag>.<8 hex digits>.incomplete``; in moshid's folder, ``<etag>.part``."""
    names = (wanted.etag, f"{wanted.etag}.*incomplete")
    found = [p for name in names for p in sorted(root.glob(f"*--*/blobs/{name}"))]
    return _single([p for p in found if p != blob and not _is_same(p, blob)], wanted)


def in_snapshots(folder: Path, commit: str, wanted: Wanted) -> list[Donor]:
    """Files that lie themselves, instead of a link, in the snapshots of a repository's other
    commits; what lies in its own is known."""
    snapshots = [s for s in sorted(folder.glob("snapshots/*")) if s.name != commit]
    found = [s / name for s in snapshots for name in wanted.names]
    return _single([f for f in found if not f.is_symlink()], wanted)


def _is_same(path: Path, blob: Path) -> bool:
    """Whether both lead into huggingface_hub's shared store, to one file."""
    return blob.exists() and path.resolve() == blob.resolve()


def named(paths: Iterable[Path], wanted: Wanted) -> list[Donor]:
    """What there is of the blob in the files and folders that the user names."""
    found: list[Donor] = []
    for path in paths:
        if not path.is_dir():
            found += _single([path], wanted)
            continue
        folders = [(folder, sorted(files)) for folder, files in _walk(path)]
        likely = [folder / f for folder, files in folders for f in files if _is_likely(f, wanted)]
        others = [folder / f for folder, files in folders for f in files]
        found += _single(likely, wanted)
        found += [d for d in _single(others, wanted) if d.whole and d not in found]
        for folder, files in folders:
            found += _numbered(folder, files, wanted)
    return sorted(found, key=lambda d: not d.whole)[:DONORS_MAX]


def check_sources(paths: Sequence[str]) -> list[Path]:
    """The paths that a client names, in their shortest form.

    Raises:
        InvalidParams: one is relative, missing, unreadable, or neither file nor folder.
    """
    return [_check(path) for path in paths]


def _check(path: str) -> Path:
    if "\0" in path or not os.path.isabs(path):
        raise InvalidParams(
            f"from: {path!r} is not the absolute path of a file or folder", hint=ABSOLUTE_PATH
        )
    found = Path(os.path.normpath(path))
    try:
        mode = found.stat().st_mode
    except OSError as e:
        raise InvalidParams(f"from: {found} cannot be used: {os.strerror(e.errno or 0)}") from e
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InvalidParams(f"from: {found} is neither a file nor a folder")
    if not os.access(found, os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)):
        raise InvalidParams(f"from: {found} may not be read")
    return found


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    left = FILES_MAX
    for where, folders, files in os.walk(folder):
        folders.sort()
        yield Path(where), files[:left]
        left -= len(files)
        if left <= 0:
            return


def _is_likely(name: str, wanted: Wanted) -> bool:
    """By its name: the digest's, as caches have it, or the file's own with something behind it."""
    if wanted.etag in name:
        return True
    return any(name.startswith(Path(n).name) for n in wanted.names)


def _single(paths: Iterable[Path], wanted: Wanted) -> list[Donor]:
    """Those files that may hold the blob from its first byte on, the largest first."""
    found = []
    for path in paths:
        size = _size_of(path)
        if size == wanted.size or PART_BYTES_MIN <= size < wanted.size:
            whole = size == wanted.size and path.suffix not in _UNFINISHED
            found.append(Donor(path, (Part(path, 0, size),), whole))
    return sorted(found, key=lambda d: (not d.whole, -d.parts[0].size))


def _numbered(folder: Path, files: Iterable[str], wanted: Wanted) -> list[Donor]:
    sizes = {name: _size_of(folder / name) for name in files if any(c.isdigit() for c in name)}
    sizes = {n: s for n, s in sizes.items() if PART_BYTES_MIN <= s < wanted.size}
    return [
        Donor(folder, tuple(Part(folder / n, at, sizes[n]) for n, at in way.items()))
        for way in numbered.ways(sizes, wanted.size)
    ]


def _size_of(path: Path) -> int:
    """The size of a regular file, 0 of anything else."""
    try:
        found = path.stat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
