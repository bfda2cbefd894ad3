"""huggingface_hub's shared store, laid out by hand: what is mended there, what goes, what stays."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from moshid.downloads import removal
from moshid.downloads.cache import Cache
from moshid.downloads.shared_store import FOLDER, MARKER, SharedStore

REPO, OTHER = "org/name", "org/other"
COMMIT, ETAG, XET_HASH = "a" * 40, "b" * 64, "cd" * 32
BAD, RIGHT = b"bad", b"right"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Two repositories that show the same content, which is damaged."""
    cache = Cache(tmp_path / "hub")
    payload = payload_of(cache)
    payload.parent.mkdir(parents=True)
    (cache.root / FOLDER / MARKER).write_text("1\n")
    payload.write_bytes(BAD)
    payload.chmod(0o440)
    for repo in (REPO, OTHER):
        blob = cache.blob(repo, ETAG)
        blob.parent.mkdir(parents=True)
        blob.symlink_to(f"../../{FOLDER}/{XET_HASH[:2]}/{XET_HASH}")
        with payload.with_name(f"{XET_HASH}.refs").open("a") as refs:
            refs.write(f"{blob.relative_to(cache.root)}\n")
        cache.link(repo, COMMIT, "f", ETAG)
        cache.write_ref(repo, "main", COMMIT)
    return cache


def payload_of(cache: Cache) -> Path:
    """The one file in the store."""
    return cache.root / FOLDER / XET_HASH[:2] / XET_HASH


def mend(cache: Cache) -> None:
    """Publish the right content."""
    partial = cache.partial(ETAG)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(RIGHT)
    cache.publish(REPO, COMMIT, "f", ETAG, partial)


def shown(cache: Cache) -> list[bytes]:
    """What the two repositories show."""
    return [cache.files(r, "main")["f"].read_bytes() for r in (REPO, OTHER)]


def test_what_is_damaged_is_mended_for_all_by_a_rename(cache: Cache) -> None:
    payload = payload_of(cache)
    with payload.open("rb") as reader:
        mend(cache)
        assert reader.read() == BAD, "whoever reads it goes on reading"
    assert shown(cache) == [RIGHT, RIGHT]
    assert cache.blob(REPO, ETAG).is_symlink()
    assert payload.stat().st_mode & 0o777 == 0o440


def test_it_waits_for_huggingface_hubs_lock(cache: Cache) -> None:
    order = []
    store, blob = cache.store, cache.blob(REPO, ETAG)
    lock = payload_of(cache).with_name(f"{XET_HASH}.lock")
    assert store.replace(blob, lambda _payload: order.append(_is_locked(lock)))
    assert order == [True]
    assert not _is_locked(lock)


def test_content_that_others_know_by_another_digest_is_left_to_them(cache: Cache) -> None:
    blob = cache.blob(OTHER, ETAG)
    blob.rename(blob.with_name("e" * 64))
    mend(cache)
    assert payload_of(cache).read_bytes() == BAD
    assert not cache.blob(REPO, ETAG).is_symlink()
    assert cache.files(REPO, "main")["f"].read_bytes() == RIGHT


@pytest.mark.parametrize("marker", ["2\n", None])
def test_a_store_of_an_unknown_kind_is_not_touched(cache: Cache, marker: str | None) -> None:
    path = cache.root / FOLDER / MARKER
    path.unlink()
    if marker is not None:
        path.write_text(marker)
    mend(cache)
    assert shown(cache) == [RIGHT, BAD]
    assert payload_of(cache).read_bytes() == BAD


@pytest.mark.parametrize("where", ["../../../outside", f"../../{FOLDER}/xx/{'f' * 64}", "/x"])
def test_links_to_elsewhere_are_replaced_like_files(cache: Cache, where: str) -> None:
    blob = cache.blob(REPO, ETAG)
    blob.unlink()
    blob.symlink_to(where)
    assert cache.store.payload_of(blob) is None
    mend(cache)
    assert shown(cache) == [RIGHT, BAD]


def test_deleting_one_of_two_leaves_the_content_and_the_last_takes_it(cache: Cache) -> None:
    payload = payload_of(cache)
    first = removal.whole_repository(cache, REPO)
    assert first is not None
    assert first.freed_bytes == len(COMMIT)
    first.carry_out()
    assert payload.read_bytes() == BAD
    last = removal.whole_repository(cache, OTHER)
    assert last is not None
    assert last.freed_bytes == len(COMMIT) + len(BAD)
    last.carry_out()
    assert [p.name for p in payload.parent.iterdir()] == [f"{XET_HASH}.lock"]


def test_an_old_revision_takes_its_link_and_what_only_it_showed(cache: Cache) -> None:
    new, fresh = "d" * 40, "9" * 64
    for repo in (REPO, OTHER):
        partial = cache.partial(fresh)
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(RIGHT)
        cache.publish(repo, new, "f", fresh, partial)
        cache.write_ref(repo, "main", new)
    for repo, freed_bytes in ((REPO, 0), (OTHER, len(BAD))):
        old = removal.old_revisions(cache, removal.scan(cache)[repo], lambda _r: False)
        assert old is not None
        assert old.freed_bytes == freed_bytes
        old.carry_out()
        assert not os.path.lexists(cache.blob(repo, ETAG))
        assert payload_of(cache).exists() is (repo == REPO)
    assert shown(cache) == [RIGHT, RIGHT]


def test_a_link_that_comes_before_the_sweep_saves_the_content(cache: Cache) -> None:
    blob = cache.blob(OTHER, ETAG)
    blob.unlink()
    going = removal.whole_repository(cache, REPO)
    blob.symlink_to(f"../../{FOLDER}/{XET_HASH[:2]}/{XET_HASH}")
    assert going is not None
    going.carry_out()
    assert blob.read_bytes() == BAD


def test_there_may_be_no_store(tmp_path: Path) -> None:
    store = SharedStore(tmp_path)
    assert store.payload_of(tmp_path / "models--a--b" / "blobs" / ETAG) is None
    assert store.payloads_below(tmp_path / "models--a--b") == {}


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
