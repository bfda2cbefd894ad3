"""What can go from the Hugging Face cache, how much room that gives, and its removal. Blocking.

Revisions go by huggingface_hub's own strategy, which knows what other revisions still show. Outside
the folder of the repository named, only what nobody else links to in the shared store is deleted.
Knows no jobs; the caller says what stays.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from huggingface_hub import (
    CachedRepoInfo,
    CachedRevisionInfo,
    DeleteCacheStrategy,
    HFCacheInfo,
    scan_cache_dir,
)
from huggingface_hub.errors import CacheNotFound

from moshid.downloads.cache import ASIDE, Cache
from moshid.downloads.digests import is_digest
from moshid.downloads.shared_store import SharedStore
from moshid.errors import DownloadError

STALE_S: Final = 86_400.0
"""What nobody has written for so long, and nobody locks, is orphaned."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Revisions of a repository that go, by commit, each with the bytes that it shows (what two
    revisions share counts in both; ``freed_bytes`` counts it once). ``whole``: the folder goes;
    ``payloads``: what it links to in the shared store."""

    repo: str
    folder: Path
    revisions: tuple[tuple[str, int], ...]
    freed_bytes: int
    strategy: DeleteCacheStrategy | None
    whole: bool
    store: SharedStore
    payloads: tuple[Path, ...] = ()

    def carry_out(self) -> None:
        """Delete it.

        Raises:
            OSError: some of it is still there.
        """
        if self.strategy is not None:
            self.strategy.execute()
        if self.whole and self.folder.exists():
            shutil.rmtree(self.folder)  # what no revision shows, or what could not be deleted
        for payload in self.payloads:
            self.store.sweep(payload)
        for left in self.strategy.snapshots if self.strategy else ():
            if left.exists():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(left))


@dataclass(frozen=True, slots=True)
class Loose:
    """A file that nothing needs any more. Whoever is at work on it holds a flock on ``lock``."""

    path: Path
    lock: Path
    size_bytes: int

    def remove(self) -> bool:
        """Delete it, unless somebody is at work on it."""
        with _locked(self.lock) as ours:
            if ours:
                self.path.unlink(missing_ok=True)
            return ours


def scan(cache: Cache) -> dict[str, CachedRepoInfo]:
    """The model repositories in the cache that huggingface_hub finds in order, by name."""
    try:
        found = scan_cache_dir(cache.root)
    except CacheNotFound:
        return {}
    return {repo.repo_id: repo for repo in found.repos if repo.repo_type == "model"}


def whole_repository(cache: Cache, repo: str) -> Removal | None:
    """All that the cache holds of a repository, in order or not; None: nothing.

    Raises:
        DownloadError: its folder is a link to somewhere else.
    """
    folder = cache.repo_dir(repo)
    if folder.is_symlink():
        raise DownloadError(
            f"the cache's folder of {repo} is a link to {folder.readlink()}",
            hint="Delete the folder it leads to and the link by hand.",
        )
    if not folder.is_dir():
        return None
    info = scan(cache).get(repo)
    if info is not None:
        commits = tuple(sorted((r.commit_hash, r.size_on_disk) for r in info.revisions))
        strategy = _strategy(info, [commit for commit, _ in commits])
    else:
        snapshots = sorted(folder.glob("snapshots/*"))
        commits = tuple((s.name, _bytes_of(f.resolve() for f in _files(s))) for s in snapshots)
        strategy = None
    shared = cache.store.payloads_below(folder)
    freed_bytes = _bytes_of(_files(folder)) + _freed_of(cache.store, shared)
    return Removal(
        repo, folder, commits, freed_bytes, strategy, True, cache.store, payloads=tuple(shared)
    )


def old_revisions(
    cache: Cache, info: CachedRepoInfo, stays: Callable[[CachedRevisionInfo], bool]
) -> Removal | None:
    """The revisions that no ref names, in a repository where a ref names another; None: there are
    none, besides those of which ``stays`` says that they stay."""
    if not any(r.refs for r in info.revisions):
        return None
    old = [r for r in info.revisions if not r.refs and not stays(r)]
    if not old:
        return None
    strategy = _strategy(info, [r.commit_hash for r in old])
    commits = tuple(sorted((r.commit_hash, r.size_on_disk) for r in old))
    folder = cache.repo_dir(info.repo_id)
    below = cache.store.payloads_below(folder).items()
    shared = {p: links for p, links in below if strategy.blobs.issuperset(links)}
    freed_bytes = _bytes_of(strategy.blobs) + _freed_of(cache.store, shared)
    return Removal(
        info.repo_id, folder, commits, freed_bytes, strategy, False, cache.store, tuple(shared)
    )


def is_written(cache: Cache, repo: str) -> bool:
    """Whether somebody (huggingface_hub, or another moshid) is bringing a file of it in."""
    locks = cache.root / ".locks" / cache.repo_dir(repo).name
    return any(_is_locked(lock) for lock in locks.glob("*.lock"))


def partials(cache: Cache, etags: Iterable[str]) -> list[Loose]:
    """The partial files of these digests that nobody is at work on."""
    return [p for p in map(_partial, map(cache.partial, etags)) if p is not None]


def unwanted_partials(cache: Cache, wanted: set[str], known: set[str]) -> list[Loose]:
    """Partial files of digests that are not ``wanted``; one that is not ``known`` either may be
    another home's, and is left alone for a day."""
    found = []
    for path in sorted((cache.root / ".locks" / "moshid").glob("*")):
        if path.suffix == ".new":
            found += _left_aside([path])
        elif path.suffix == ".part" and path.stem not in wanted:
            ours = path.stem in known
            if (ours or _is_stale(path)) and (partial := _partial(path)) is not None:
                found.append(partial)
    return found


def left_aside(cache: Cache, repo: str) -> list[Loose]:
    """What a process that was killed had made in a repository's folder, for a rename that never
    came: a day old."""
    below = sorted(cache.repo_dir(repo).rglob(".*.new"))
    return _left_aside(path for path in below if ASIDE.fullmatch(path.name))


def orphans(cache: Cache, repo: str) -> list[Loose]:
    """What huggingface_hub began to fetch of a repository and left: not locked, a day old."""
    locks = cache.root / ".locks" / cache.repo_dir(repo).name
    found = []
    for path in sorted(cache.repo_dir(repo).glob("blobs/*.incomplete")):
        lock = locks / f"{path.name.partition('.')[0]}.lock"
        if _is_stale(path) and not _is_locked(lock):
            found.append(Loose(path, lock, _size_of(path)))
    return found


def unshown(cache: Cache, repo: str, known: set[str]) -> list[Loose]:
    """Blobs that no revision shows, of digests that are not ``known``: a removal that was killed
    leaves them, since blobs go last. Only what is a day old and not locked, and nothing where a
    revision does not go by links.

    Raises:
        OSError: what revisions show cannot be told.
    """
    folder = cache.repo_dir(repo)
    locks = cache.root / ".locks" / folder.name
    shown = set()
    for at, folders, names in os.walk(folder / "snapshots", onerror=_refused):
        for path in (Path(at, name) for name in folders + names):
            if path.is_symlink():
                shown.add(os.path.realpath(path))
            elif not path.is_dir():
                return []
    found = []
    for path in sorted(folder.glob("blobs/*")):
        lock = locks / f"{path.name}.lock"
        ours = is_digest(path.name) and path.name not in known and not path.is_symlink()
        forsaken = ours and os.path.realpath(path) not in shown and _is_stale(path)
        if forsaken and path.is_file() and not _is_locked(lock):
            found.append(Loose(path, lock, _size_of(path)))
    return found


def _refused(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _strategy(info: CachedRepoInfo, commits: Iterable[str]) -> DeleteCacheStrategy:
    """huggingface_hub's plan for this repository alone, since a commit may be in two of them. What
    a blob links to is not the repository's; the link is."""
    strategy = HFCacheInfo(info.size_on_disk, frozenset({info}), []).delete_revisions(*commits)
    within = info.repo_path.resolve()
    going = frozenset(b for b in strategy.blobs if b.resolve().is_relative_to(within))
    links = [b for b in within.glob("blobs/*") if b.is_symlink()]
    return replace(strategy, blobs=going.union(b for b in links if b.resolve() in strategy.blobs))


def _freed_of(store: SharedStore, shared: Mapping[Path, Collection[Path]]) -> int:
    return sum(store.freed_bytes(payload, set(links)) for payload, links in shared.items())


def _left_aside(paths: Iterable[Path]) -> list[Loose]:
    """Links among them, which may lead to what is not to be touched, nor locked."""
    own = (p for p in paths if _is_stale(p) and _has_one_name(p))
    return [Loose(p, p.with_suffix(".lock"), _size_of(p)) for p in own]


def _has_one_name(path: Path) -> bool:
    """A file with two has the other one's age, and takes no room."""
    with suppress(FileNotFoundError):
        found = path.lstat()
        return found.st_nlink == 1 and not stat.S_ISDIR(found.st_mode)
    return False


def _partial(path: Path) -> Loose | None:
    if not path.is_file() or _is_locked(path):
        return None
    return Loose(path, path, _size_of(path))


def _files(folder: Path) -> list[Path]:
    return [f for f in folder.rglob("*") if f.is_file()]


def _bytes_of(files: Iterable[Path]) -> int:
    """What regular files hold, each once; links hold nothing."""
    stats = [f.lstat() for f in files if not f.is_symlink() and f.exists()]
    return sum({(s.st_dev, s.st_ino): s.st_size for s in stats}.values())


def _size_of(path: Path) -> int:
    """The room a file takes: a partial file is as long as the whole, but may have holes."""
    found = path.lstat()
    return min(found.st_size, found.st_blocks * 512)


def _is_stale(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > STALE_S
    return False


def _is_locked(path: Path) -> bool:
    with _locked(path) as ours:
        return not ours


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether the lock was free and is ours for the block; a file that is not there has none."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
