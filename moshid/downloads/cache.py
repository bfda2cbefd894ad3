"""The Hugging Face cache on disk: where files lie, publication. Owns its layout.

``models--org--name/{blobs/<etag>, snapshots/<commit>/<path> → blob, refs/<revision>}``. Files enter
by rename, never written through a link; what lies in huggingface_hub's shared store is mended
there. All functions are blocking.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from moshid.downloads.digests import is_digest
from moshid.downloads.disk import sync, sync_folder
from moshid.downloads.regular import copy_of_size, regular
from moshid.downloads.shared_store import SharedStore
from moshid.downloads.volume import CACHE_HINT, CACHE_NAME
from moshid.errors import DownloadError

LOCK_PATIENCE_S: Final = 5.0
"""How long to wait for huggingface_hub's lock. It may hold it for a whole download, and a rename
harms it in no way, so publication goes on without it after that."""

COMMIT: Final = re.compile(r"[0-9a-f]{40}")
ASIDE: Final = re.compile(r"\.(?:[0-9a-f]{40}|[0-9a-f]{64}|ref)\.\d+-\d+\.new")
"""What is made beside its place, where that is on another volume than ``.locks``."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


class Cache:
    """The cache below ``root`` (HF_HUB_CACHE)."""

    shared: Final = True
    doubts_max: Final = 2
    name: Final = CACHE_NAME
    check_hint: Final = CACHE_HINT
    mismatch_hint: Final = None

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = SharedStore(root)

    def key(self, etag: str) -> str:
        """By what the ledger knows a partial file: content is the same whoever wants it."""
        return etag

    def repo_dir(self, repo: str) -> Path:
        """The folder of a model repository."""
        return self.root / f"models--{repo.replace('/', '--')}"

    def blob(self, repo: str, etag: str) -> Path:
        """Where content of that digest belongs."""
        return self.repo_dir(repo) / "blobs" / etag

    def snapshot(self, repo: str, commit: str) -> Path:
        """The folder of links that shows the repository at a commit."""
        return self.repo_dir(repo) / "snapshots" / commit

    def partial(self, etag: str) -> Path:
        """The partial file of a digest; scan_cache_dir does not look into ``.locks``."""
        return self.root / ".locks" / "moshid" / f"{etag}.part"

    def publish(self, repo: str, commit: str, path: str, etag: str, partial: Path) -> None:
        """Move a verified partial file to its blob, and show it in the snapshot."""
        blob = self.blob(repo, etag)
        blob.parent.mkdir(parents=True, exist_ok=True)
        self._entry(repo, commit, path).parent.mkdir(parents=True, exist_ok=True)
        with self._hub_lock(repo, etag):
            if not self.store.replace(blob, lambda payload: self._mend(partial, payload)):
                self._move(partial, blob)
            sync_folder(blob.parent)
        self.link(repo, commit, path, etag)

    def content(self, repo: str, commit: str, path: str, etag: str) -> Path | None:
        """The regular file that the snapshot shows: the blob, or what lies in place of the link to
        it, or where another link leads; None: there is none."""
        entry, blob = self._entry(repo, commit, path), self.blob(repo, etag)
        if regular(entry) is None:
            return None
        return blob if os.path.exists(blob) and os.path.samefile(entry, blob) else entry

    def seed(self, repo: str, etag: str, size: int, plain: Sequence[Path] = ()) -> bool:
        """Make a partial file out of a cached blob, or of a ``plain`` file in the snapshot, so that
        only its bad chunks are fetched again; the blob itself stays as it is until a rename
        replaces it. False: there is none to use."""
        partial = self.partial(etag)
        found = [p for p in (self.blob(repo, etag), *plain) if regular(p)]
        if partial.exists() or not found:
            return False
        new = self._aside(etag, partial.parent)
        try:
            copy_of_size(found[0], new, size)
            new.replace(partial)
        finally:
            new.unlink(missing_ok=True)
        return True

    def link(self, repo: str, commit: str, path: str, etag: str, twin: str | None = None) -> None:
        """Show a blob in the snapshot, by a relative link. Where there are no links, it is moved
        there, as huggingface_hub does it, or copied from its ``twin``, which has had it."""
        entry = self._entry(repo, commit, path)
        entry.parent.mkdir(parents=True, exist_ok=True)
        blob = self.blob(repo, etag)
        target = os.path.relpath(blob, entry.parent)
        if entry.is_symlink() and os.readlink(entry) == target:
            return
        new = self._aside(etag, entry.parent)
        try:
            self._symlink(target, new)
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            shown = blob if os.path.exists(blob) else self._entry(repo, commit, twin or path)
            if shown == entry:
                return
            new = self._without_links(shown, new, moved=shown == blob)
        new.replace(entry)
        sync_folder(entry.parent)

    def write_ref(self, repo: str, revision: str, commit: str) -> None:
        """Say which commit a branch or tag is; a commit needs no saying."""
        if revision == commit:
            return
        ref = self.repo_dir(repo) / "refs" / check_repo_path(revision)
        ref.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if regular(ref) is not None and ref.read_text(errors="replace") == commit:
                return
        new = self._aside("ref", ref.parent)
        new.write_text(commit)
        _sync_file(new)
        new.replace(ref)
        sync_folder(ref.parent)

    def commit_of(self, repo: str, revision: str) -> str | None:
        """The commit that a revision was at when it was last fetched."""
        if COMMIT.fullmatch(revision):
            return revision
        ref = self.repo_dir(repo) / "refs" / check_repo_path(revision)
        try:
            text = ref.read_text(errors="replace").strip() if regular(ref) is not None else ""
        except OSError:
            return None
        return text if COMMIT.fullmatch(text) else None

    def files(self, repo: str, revision: str) -> dict[str, Path]:
        """What the cached snapshot of a revision holds: path in the repository → file. Links to
        blobs that are gone are left out."""
        return {p: f for p, f in self.entries(repo, revision).items() if f.is_file()}

    def entries(self, repo: str, revision: str) -> dict[str, Path]:
        """The same, with the links that lead nowhere."""
        commit = self.commit_of(repo, revision)
        if commit is None:
            return {}
        folder = self.snapshot(repo, commit)
        found = (f for f in sorted(folder.rglob("*")) if f.is_symlink() or f.is_file())
        return {f.relative_to(folder).as_posix(): f for f in found if not f.is_dir()}

    def etag_of(self, file: Path) -> str:
        """The digest by which the cache keeps a snapshot's file: its blob's name. Empty: it is no
        link to a blob."""
        name = PurePosixPath(os.readlink(file)).name if file.is_symlink() else ""
        return name if is_digest(name) else ""

    def _entry(self, repo: str, commit: str, path: str) -> Path:
        return self.snapshot(repo, commit) / check_repo_path(path)

    def _without_links(self, shown: Path, new: Path, *, moved: bool) -> Path:
        """A file with the content of ``shown`` that can be renamed: at best by a second name."""
        try:
            self._hard_link(shown, new)
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            if moved:
                return shown
            shutil.copyfile(shown, new)
            _sync_file(new)
        return new

    def _symlink(self, target: str, new: Path) -> None:
        new.symlink_to(target)

    def _hard_link(self, shown: Path, new: Path) -> None:
        os.link(shown, new)

    def _mend(self, partial: Path, payload: Path) -> None:
        """Put right content in place of what others link to, too, and may only read."""
        partial.chmod(stat.S_IMODE(payload.stat().st_mode))
        self._move(partial, payload)
        sync_folder(payload.parent)

    def _move(self, partial: Path, blob: Path) -> None:
        """Rename; a repository that the user keeps on another volume gets a durable copy first."""
        try:
            partial.replace(blob)
        except OSError as e:
            if e.errno != errno.EXDEV:
                raise
            new = self._aside(blob.name, blob.parent)
            try:
                shutil.copyfile(partial, new)
                _sync_file(new)
                new.replace(blob)
            finally:
                new.unlink(missing_ok=True)
            partial.unlink(missing_ok=True)

    def _aside(self, name: str, folder: Path) -> Path:
        """A free name on the volume of ``folder``, out of everybody's sight where that is possible,
        for what a rename will put in there."""
        new = self.partial(name).with_suffix(f".{os.getpid()}-{threading.get_ident()}.new")
        new.parent.mkdir(parents=True, exist_ok=True)
        if new.parent.stat().st_dev != folder.stat().st_dev:
            new = folder / f".{new.name}"
        new.unlink(missing_ok=True)
        return new

    @contextmanager
    def _hub_lock(self, repo: str, etag: str) -> Iterator[None]:
        """The lock that huggingface_hub holds while it downloads or moves this blob."""
        path = self.root / ".locks" / self.repo_dir(repo).name / f"{etag}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        give_up_s = time.monotonic() + LOCK_PATIENCE_S
        try:
            while time.monotonic() < give_up_s:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
            yield
        finally:
            os.close(fd)


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def check_repo_path(path: str) -> str:
    """The path of a file within a repository, if it stays within.

    Raises:
        DownloadError: it is absolute, climbs out, or is no path at all.
    """
    parts = path.split("/")
    if "\0" in path or "\\" in path or any(p in ("", ".", "..") for p in parts):
        raise DownloadError(
            f"the repository names a file that leads out of it: {path!r}",
            hint="Do not use this repository; its file names are hostile.",
        )
    return path
