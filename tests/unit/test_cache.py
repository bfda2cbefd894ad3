"""The cache on disk: as huggingface_hub lays it out, and nothing outside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import xxhash
from filelock import FileLock, Timeout
from huggingface_hub import hf_hub_download, scan_cache_dir

from moshid.downloads.cache import Cache, check_repo_path
from moshid.downloads.digests import check_etag, digest_of, file_matches, whole_hasher
from moshid.downloads.plan import Chunk
from moshid.errors import DownloadError, NoDigest

REPO, COMMIT, ETAG = "org/name", "a" * 40, "b" * 64


def publish(cache: Cache, path: str, etag: str = ETAG, content: bytes = b"hello") -> None:
    """Publish a file with this content."""
    partial = cache.partial(etag)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(content)
    cache.publish(REPO, COMMIT, path, etag, partial)
    cache.write_ref(REPO, "main", COMMIT)


@pytest.mark.parametrize("path", ["config.json", "deep/er/config.json"])
def test_a_published_file_is_found_by_huggingface_hub(tmp_path: Path, path: str) -> None:
    cache = Cache(tmp_path)
    publish(cache, path)
    found = Path(hf_hub_download(REPO, path, cache_dir=tmp_path, local_files_only=True))
    assert found.read_bytes() == b"hello"
    depth = "../" * (path.count("/") + 2)
    assert os.readlink(found) == f"{depth}blobs/{ETAG}"
    assert cache.files(REPO, "main") == cache.files(REPO, COMMIT) == {path: found}
    assert cache.etag_of(found) == ETAG
    assert not scan_cache_dir(tmp_path).warnings
    assert list((tmp_path / ".locks" / "moshid").iterdir()) == []


def test_publishing_replaces_a_link_and_never_writes_through_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "hub")
    store = tmp_path / "store"
    store.write_bytes(b"theirs")
    blob = cache.blob(REPO, ETAG)
    blob.parent.mkdir(parents=True)
    blob.symlink_to(store)
    publish(cache, "f")
    assert store.read_bytes() == b"theirs"
    assert not blob.is_symlink()
    assert blob.read_bytes() == b"hello"


def test_huggingface_hubs_lock_is_held_while_a_file_is_published(tmp_path: Path) -> None:
    path = tmp_path / ".locks" / "models--org--name" / f"{ETAG}.lock"
    refused = []

    class Watched(Cache):
        def _move(self, partial: Path, blob: Path) -> None:
            with pytest.raises(Timeout):
                FileLock(path, timeout=0).acquire()
            refused.append(blob)
            super()._move(partial, blob)

    cache = Watched(tmp_path)
    publish(cache, "f")
    assert refused == [cache.blob(REPO, ETAG)]
    with FileLock(path, timeout=0):
        pass


def test_a_new_revision_moves_the_link_and_the_ref(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    publish(cache, "f")
    publish(cache, "f", etag="c" * 64, content=b"new")
    assert cache.files(REPO, "main")["f"].read_bytes() == b"new"
    cache.write_ref(REPO, "refs/pr/1", COMMIT)
    assert cache.commit_of(REPO, "refs/pr/1") == COMMIT
    ref = cache.repo_dir(REPO) / "refs" / "main"
    assert ref.read_bytes() == COMMIT.encode()
    cache.write_ref(REPO, "main", "d" * 40)
    assert cache.commit_of(REPO, "main") == "d" * 40
    assert cache.files(REPO, "main") == {}
    cache.write_ref(REPO, COMMIT, COMMIT)
    assert not (cache.repo_dir(REPO) / "refs" / COMMIT).exists()


def test_what_is_not_there_is_not_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.files(REPO, "main") == {}
    assert cache.commit_of(REPO, "main") is None
    publish(cache, "f")
    cache.blob(REPO, ETAG).unlink()
    assert cache.files(REPO, "main") == {}


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", ".", "a/..", "a\0b", "a\\b", "a/"]
)
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DownloadError, match="leads out"):
        check_repo_path(path)
    with pytest.raises(DownloadError):
        publish(Cache(tmp_path / "hub"), path)
    assert not (tmp_path / "x").exists()


def test_seeding_copies_and_leaves_the_blob(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert not cache.seed(REPO, ETAG, 5)
    publish(cache, "f")
    assert cache.seed(REPO, ETAG, 5)
    assert cache.partial(ETAG).read_bytes() == cache.blob(REPO, ETAG).read_bytes()
    assert not cache.seed(REPO, ETAG, 5)


@pytest.mark.parametrize(("size", "taken"), [(3, b"hel"), (7, b"hello\0\0")])
def test_a_blob_of_another_size_gives_what_may_be_right_of_it(
    tmp_path: Path, size: int, taken: bytes
) -> None:
    cache = Cache(tmp_path)
    publish(cache, "f")
    assert cache.seed(REPO, ETAG, size)
    assert cache.partial(ETAG).read_bytes() == taken
    assert cache.blob(REPO, ETAG).read_bytes() == b"hello"


def test_only_a_regular_file_is_content_or_gives_any(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    publish(cache, "f")
    blob, entry = cache.blob(REPO, ETAG), cache.snapshot(REPO, COMMIT) / "f"
    assert cache.content(REPO, COMMIT, "f", ETAG) == blob
    blob.unlink()
    os.mkfifo(blob)
    assert not file_matches(blob, ETAG, 0)
    assert cache.content(REPO, COMMIT, "f", ETAG) is None
    assert not cache.seed(REPO, ETAG, 5)
    entry.unlink()
    entry.write_bytes(b"hello")
    assert cache.content(REPO, COMMIT, "f", ETAG) == entry
    assert cache.seed(REPO, ETAG, 5, [entry])
    entry.unlink()
    entry.symlink_to(entry.name)
    assert cache.content(REPO, COMMIT, "f", ETAG) is None


class Linkless(Cache):
    """A cache on a file system such as exFAT."""

    def _symlink(self, target: str, new: Path) -> None:
        raise PermissionError(errno.EPERM, "no symbolic links", str(new), None, target)

    def _hard_link(self, shown: Path, new: Path) -> None:
        raise PermissionError(errno.EPERM, "no hard links", str(new), None, str(shown))


@pytest.mark.parametrize("names", [1, 2])
def test_where_there_are_no_links_the_blob_itself_is_moved_into_the_snapshot(
    tmp_path: Path, names: int
) -> None:
    cache = Linkless(tmp_path)
    publish(cache, "f")
    paths = ["f", "deep/er/f"][:names]
    for path in paths:
        cache.link(REPO, COMMIT, path, ETAG, twin="f")
    for path in paths:
        found = Path(hf_hub_download(REPO, path, cache_dir=tmp_path, local_files_only=True))
        assert cache.content(REPO, COMMIT, path, ETAG) == found
        assert not found.is_symlink()
        assert found.read_bytes() == b"hello"
    assert not cache.blob(REPO, ETAG).exists(), "no room is taken twice"
    assert not scan_cache_dir(tmp_path).warnings
    assert list((tmp_path / ".locks" / "moshid").iterdir()) == []


def test_a_second_name_does_where_only_symbolic_links_are_missing(tmp_path: Path) -> None:
    class Symlinkless(Cache):
        def _symlink(self, target: str, new: Path) -> None:
            raise PermissionError(errno.EPERM, "no symbolic links", str(new), None, target)

    cache = Symlinkless(tmp_path)
    publish(cache, "f")
    assert cache.content(REPO, COMMIT, "f", ETAG) == cache.blob(REPO, ETAG)


def test_digests_of_both_kinds(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"hello\n")
    git = "ce013625030ba8dba906f756967f9e9ca394464a"
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert file_matches(file, git, 6)
    assert file_matches(file, sha256, 6)
    assert not file_matches(file, sha256, 7)
    assert not file_matches(file, "0" * 64, 6)
    assert whole_hasher("e" * 40, 0).hexdigest() == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    with file.open("rb") as opened:
        assert digest_of(opened.fileno(), Chunk(0, 0, 6)).hex() == sha256
        assert digest_of(opened.fileno(), Chunk(0, 0, 100)).hex() == sha256
        fast = Chunk(0, 1, 4, digest_kind="xxh3")
        assert digest_of(opened.fileno(), fast) == xxhash.xxh3_128(b"ello").digest()


@pytest.mark.parametrize("etag", [None, "", "W/abc", "0" * 63, "G" * 64, "../../x"])
def test_an_etag_that_proves_nothing_is_refused(etag: str | None) -> None:
    with pytest.raises(NoDigest):
        check_etag(etag, "f")


@pytest.mark.parametrize("kind", ["bytes", "fifo", "folder"])
def test_a_ref_that_is_none_is_no_fault(tmp_path: Path, kind: str) -> None:
    """As a disk that failed leaves it; and what is no folder is written over."""
    cache = Cache(tmp_path)
    publish(cache, "f")
    ref = cache.repo_dir(REPO) / "refs" / "main"
    ref.unlink()
    if kind == "bytes":
        ref.write_bytes(b"\xff\xfe")
    elif kind == "fifo":
        os.mkfifo(ref)
    else:
        ref.mkdir()
    assert cache.commit_of(REPO, "main") is None
    assert cache.files(REPO, "main") == {}
    if kind != "folder":
        cache.write_ref(REPO, "main", COMMIT)
        assert cache.commit_of(REPO, "main") == COMMIT
