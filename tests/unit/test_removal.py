"""What goes from the cache, what stays, and how much room that gives."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from moshid.downloads import removal
from moshid.downloads.cache import Cache
from moshid.downloads.removal import STALE_S
from moshid.errors import DownloadError

REPO, OTHER = "org/name", "org/other"
OLD, NEW, PINNED = "a" * 40, "b" * 40, "c" * 40
SHARED, ONLY_OLD, ONLY_NEW = "1" * 64, "2" * 64, "3" * 64
SIZES = {SHARED: 1000, ONLY_OLD: 200, ONLY_NEW: 30}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Two revisions that share a file, the newer of which is ``main``; and another repository with
    the same commit."""
    cache = Cache(tmp_path / "hub")
    for repo in (REPO, OTHER):
        show(cache, repo, OLD, shared=SHARED, own=ONLY_OLD)
        show(cache, repo, NEW, shared=SHARED, own=ONLY_NEW)
        cache.write_ref(repo, "main", NEW)
    return cache


def show(cache: Cache, repo: str, commit: str, **files: str) -> None:
    """Publish files by their digests."""
    for path, etag in files.items():
        partial = cache.partial(etag)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(b"x" * SIZES[etag])
        cache.publish(repo, commit, path, etag, partial)


def old_of(cache: Cache, repo: str, *stays: str) -> removal.Removal | None:
    """What is old, but for the commits that stay."""
    return removal.old_revisions(cache, removal.scan(cache)[repo], lambda r: r.commit_hash in stays)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody is at work."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def age(path: Path, seconds: float = STALE_S + 60) -> None:
    """Have a file last written so long ago."""
    then_s = time.time() - seconds
    os.utime(path, (then_s, then_s), follow_symlinks=False)


def test_a_whole_repository_goes_and_no_other(cache: Cache) -> None:
    found = removal.whole_repository(cache, REPO)
    assert found is not None
    assert found.revisions == ((OLD, 1200), (NEW, 1030))
    assert cache.repo_dir(REPO).exists(), "a plan deletes nothing"
    before_bytes = sum(f.lstat().st_size for f in cache.repo_dir(REPO).glob("blobs/*"))
    found.carry_out()
    assert found.freed_bytes == before_bytes + len(NEW), "the ref's file is one as well"
    assert not cache.repo_dir(REPO).exists()
    assert removal.whole_repository(cache, REPO) is None
    assert len(cache.files(OTHER, "main")) == 2
    assert not scan_cache_dir(cache.root).warnings


def test_only_what_no_other_revision_shows_goes_with_an_old_one(cache: Cache) -> None:
    found = old_of(cache, REPO)
    assert found is not None
    assert found.revisions == ((OLD, 1200),)
    assert found.freed_bytes == SIZES[ONLY_OLD]
    found.carry_out()
    assert sorted(p.name for p in cache.repo_dir(REPO).glob("blobs/*")) == [SHARED, ONLY_NEW]
    assert {r.commit_hash for r in removal.scan(cache)[REPO].revisions} == {NEW}
    assert len(cache.files(OTHER, OLD)) == 2, "the same commit in another repository"
    assert old_of(cache, REPO) is None


def test_a_revision_that_stays_stays(cache: Cache) -> None:
    assert old_of(cache, REPO, OLD) is None


def test_the_only_revision_is_not_old(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    show(cache, REPO, PINNED, own=ONLY_OLD)
    assert old_of(cache, REPO) is None


def test_a_repository_in_disorder_can_be_deleted(cache: Cache) -> None:
    cache.blob(REPO, ONLY_NEW).unlink()
    assert REPO not in removal.scan(cache), "huggingface_hub cannot make anything of it"
    found = removal.whole_repository(cache, REPO)
    assert found is not None
    assert found.revisions == ((OLD, 1200), (NEW, 1000))
    found.carry_out()
    assert not cache.repo_dir(REPO).exists()


def test_the_content_of_a_shared_store_stays(cache: Cache, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.write_bytes(b"theirs")
    for repo in (REPO, OTHER):
        cache.blob(repo, ONLY_OLD).unlink()
        cache.blob(repo, ONLY_OLD).symlink_to(store)
    old, whole = old_of(cache, REPO), removal.whole_repository(cache, OTHER)
    assert old is not None
    assert whole is not None
    assert old.freed_bytes == 0
    assert whole.freed_bytes == SIZES[SHARED] + SIZES[ONLY_NEW] + len(NEW)
    for found in (old, whole):
        found.carry_out()
    assert store.read_bytes() == b"theirs"
    assert not cache.repo_dir(OTHER).exists()


def test_a_folder_that_is_a_link_is_left_alone(cache: Cache, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.move(cache.repo_dir(REPO), elsewhere)
    cache.repo_dir(REPO).symlink_to(elsewhere)
    with pytest.raises(DownloadError, match="is a link to"):
        removal.whole_repository(cache, REPO)


def test_what_could_not_be_deleted_is_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise PermissionError(13, "no")

    old, whole = old_of(cache, REPO), removal.whole_repository(cache, REPO)
    assert old is not None
    assert whole is not None
    monkeypatch.setattr(shutil, "rmtree", refuse)  # root may delete everything
    for found in (old, whole):
        with pytest.raises(PermissionError):
            found.carry_out()


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "none")
    assert removal.scan(cache) == {}
    assert removal.whole_repository(cache, REPO) is None
    assert removal.unwanted_partials(cache, set(), set()) == []
    assert removal.orphans(cache, REPO) == []
    assert not removal.is_written(cache, REPO)


def test_a_held_lock_says_that_it_is_written(cache: Cache) -> None:
    lock = cache.root / ".locks" / cache.repo_dir(REPO).name / f"{SHARED}.lock"
    assert lock.exists()
    assert not removal.is_written(cache, REPO)
    with locked(lock):
        assert removal.is_written(cache, REPO)
        assert not removal.is_written(cache, OTHER)


def test_partials_that_nobody_wants(cache: Cache) -> None:
    folder = cache.root / ".locks" / "moshid"
    names = ["wanted.part", "known.part", "busy.part", "young.part", "stranger.part"]
    for name in [*names, "young.1-2.new", "old.1-2.new"]:
        (folder / name).write_bytes(b"x" * 10)
    for name in ("wanted.part", "stranger.part", "old.1-2.new"):
        age(folder / name)
    with locked(folder / "busy.part"):
        found = removal.unwanted_partials(cache, {"wanted"}, {"wanted", "known", "busy"})
        assert [f.path.name for f in found] == ["known.part", "old.1-2.new", "stranger.part"]
        assert [f.size_bytes for f in found] == [10, 10, 10]
    with locked(folder / "known.part"):
        assert [f.remove() for f in found] == [False, True, True]
    left = {p.name for p in folder.iterdir()}
    assert left == {"wanted.part", "known.part", "busy.part", "young.part", "young.1-2.new"}


def test_a_reserved_file_takes_the_room_that_it_takes(cache: Cache) -> None:
    path = cache.partial("e" * 64)
    with path.open("wb") as file:
        file.truncate(10_000_000)
    (found,) = removal.partials(cache, ["e" * 64, "f" * 64])
    assert found.path == path
    assert found.size_bytes < 10_000_000


def test_what_a_killed_process_had_made_for_a_rename_goes(cache: Cache) -> None:
    """A link as well as a file; in the repository, where that is on another volume."""
    hidden, at = cache.root / ".locks" / "moshid", cache.repo_dir(REPO)
    link, in_snapshot = hidden / "x.1-2.new", at / "snapshots" / NEW / f".{SHARED}.1-2.new"
    for new in (link, in_snapshot):
        new.symlink_to(f"../../blobs/{SHARED}")
    files = [at / "blobs" / f".{SHARED}.1-2.new", at / "refs" / ".ref.1-2.new"]
    theirs = [at / "blobs" / ".x.1-2.new", at / "snapshots" / NEW / ".own.new"]
    for new in (*files, *theirs):
        new.write_bytes(b"half")
    second = at / "refs" / ".ref.3-4.new"
    os.link(at / "blobs" / SHARED, second)
    assert removal.left_aside(cache, REPO) == [], "young"
    for path in (link, in_snapshot, *files, *theirs, second):
        age(path)
    found = [*removal.unwanted_partials(cache, set(), set()), *removal.left_aside(cache, REPO)]
    assert {f.path for f in found} == {link, in_snapshot, *files}
    with locked(at / "blobs" / SHARED):
        assert all(f.remove() for f in found)
    assert (at / "blobs" / SHARED).exists()
    assert not link.is_symlink()
    assert removal.left_aside(cache, OTHER) == []


@pytest.mark.parametrize("name", [f"{SHARED}.incomplete", f"{SHARED}.1f2e.incomplete"])
def test_only_old_unlocked_orphans_go(cache: Cache, name: str) -> None:
    path = cache.repo_dir(REPO) / "blobs" / name
    lock = cache.root / ".locks" / cache.repo_dir(REPO).name / f"{SHARED}.lock"
    path.write_bytes(b"half")
    assert removal.orphans(cache, REPO) == [], "young"
    age(path)
    with locked(lock):
        assert removal.orphans(cache, REPO) == []
    assert removal.orphans(cache, OTHER) == []
    (found,) = removal.orphans(cache, REPO)
    with locked(lock):
        assert not found.remove()
    assert found.remove()
    assert not path.exists()


def test_what_a_killed_removal_left_is_found(cache: Cache) -> None:
    """Snapshots go before blobs."""
    blobs = cache.repo_dir(REPO) / "blobs"
    shutil.rmtree(cache.snapshot(REPO, OLD))
    assert removal.unshown(cache, REPO, set()) == [], "young"
    for path in blobs.iterdir():
        age(path)
    assert removal.unshown(cache, REPO, {ONLY_OLD}) == [], "a job knows it"
    assert removal.unshown(cache, OTHER, set()) == []
    lock = cache.root / ".locks" / cache.repo_dir(REPO).name / f"{ONLY_OLD}.lock"
    with locked(lock):
        assert removal.unshown(cache, REPO, set()) == []
    (found,) = removal.unshown(cache, REPO, set())
    assert (found.path, found.size_bytes) == (blobs / ONLY_OLD, SIZES[ONLY_OLD])
    assert found.remove()
    assert {p.name for p in blobs.iterdir()} == {SHARED, ONLY_NEW}


def test_where_a_revision_does_not_go_by_links_every_blob_stays(cache: Cache) -> None:
    shutil.rmtree(cache.snapshot(REPO, OLD))
    age(cache.repo_dir(REPO) / "blobs" / ONLY_OLD)
    plain = cache.snapshot(REPO, NEW) / "own"
    plain.unlink()
    plain.write_bytes(b"x")
    assert removal.unshown(cache, REPO, set()) == []


def test_what_revisions_show_has_to_be_told(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_path: str) -> Iterator[os.DirEntry[str]]:
        raise PermissionError

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError):
        removal.unshown(cache, REPO, set())
