"""Quantised copies on disk: found again, told apart, made again when damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moshid import disposal
from moshid.downloads.space import SpaceReport
from moshid.errors import BadCheckpoint
from moshid.model import quantised_store
from moshid.model.quantised_writer import Outcome
from tests.fakes import small_models
from tests.fakes.quantised_copies import DIGEST, Cached

REPO = "org/model"


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    return Cached(tmp_path)


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(bool(mx.array_equal(one[n], two[n])) for n in one)


def test_the_second_load_reads_the_copy_and_gives_the_same(cached: Cached) -> None:
    how, first = cached.load()
    assert (how, set(cached.stages)) == ("quantised", {"quantising"})
    (outcome,) = cached.outcomes
    assert outcome == Outcome(cached.copy().path, cached.copy().path.stat().st_size, None)
    how, second = cached.load()
    assert (how, set(cached.stages)) == ("copy", {"reading"})
    assert same(first, second)
    assert len(cached.outcomes) == 1


def test_a_copy_stands_beside_the_cache_by_digest_and_grouping(cached: Cached) -> None:
    cached.load()
    copy = cached.copy()
    assert copy.path.parent == cached.blob.parents[2].with_name("hub.moshid-quantised")
    assert copy.path.name == f"{DIGEST}-q4-4x32-v1.safetensors"
    assert (copy.quality, copy.source, copy.stale) == ("q4", cached.blob, False)
    assert quantised_store.belongs_to(copy, REPO)
    assert not quantised_store.belongs_to(copy, "org/other")
    cached.load("q8")
    assert {c.quality for c in quantised_store.copies(cached.folder)} == {"q4", "q8"}


def test_a_copy_is_a_checkpoint_like_any_other(cached: Cached) -> None:
    _, first = cached.load()
    assert same(first, mx.load(str(cached.copy().path)))


def flip_in_data(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def overwrite(path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html>" * 1000)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [flip_in_data, cut, overwrite, empty])
def test_a_damaged_copy_is_made_again(cached: Cached, spoil: Any) -> None:
    _, first = cached.load()
    path = cached.copy().path
    whole = path.read_bytes()
    spoil(path)
    how, again = cached.load()
    assert how == "quantised"
    assert same(first, again)
    assert cached.copy().path.read_bytes() == whole
    assert cached.load()[0] == "copy"


def test_a_source_that_was_repaired_has_no_copy_yet(cached: Cached) -> None:
    """It keeps its name, since that is the digest it should have had all along."""
    cached.load()
    mx.random.seed(9)
    mended = cached.blob.with_name("mended")
    small_models.write_checkpoint(cached.folder / "new", seed=9)
    (cached.folder / "new" / "model.safetensors").rename(mended)
    mended.replace(cached.blob)
    assert cached.copy().stale
    how, other = cached.load()
    assert how == "quantised"
    assert not cached.copy().stale
    assert same(other, cached.load()[1])


def test_a_copy_whose_source_is_gone_is_stale(cached: Cached) -> None:
    cached.load()
    cached.blob.unlink()
    assert cached.copy().stale


def test_weights_outside_the_cache_are_named_by_path_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"1")
    first = quantised_store.source_of(path)
    assert first.digest.startswith("file-")
    assert quantised_store.source_of(path) == first
    os.utime(path, (1, 1))
    assert quantised_store.source_of(path).digest != first.digest
    path.unlink()
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        quantised_store.source_of(path)


def test_where_beside_cannot_be_written_copies_stand_among_the_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "hub"
    assert quantised_store.folder_beside(hub) == tmp_path / "hub.moshid-quantised"
    hub.mkdir()
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert quantised_store.folder_beside(hub) == hub / ".locks" / "moshid-quantised"


def test_a_cache_that_is_a_volume_of_its_own_keeps_its_copies() -> None:
    """/proc is another volume than /, beside which nothing may be written for it."""
    assert quantised_store.folder_beside(Path("/proc")) == Path("/proc/.locks/moshid-quantised")


def io_error_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let opening ``path`` fail as on a bad sector of its folder."""
    real = Path.open

    def opened(file: Path, *how: Any, **more: Any) -> Any:
        if file == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(file, *how, **more)

    monkeypatch.setattr(Path, "open", opened)


def test_a_copy_that_cannot_be_read_is_stale_and_spoils_no_other(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached.load("q4")
    path = cached.copy().path
    cached.load("q8")
    io_error_of(path, monkeypatch)
    stale = {c.path: c.stale for c in quantised_store.copies(cached.folder)}
    assert stale.pop(path)
    assert list(stale.values()) == [False]
    how, _ = cached.load("q4")
    assert how == "quantised"


def test_a_bad_sector_in_a_copy_has_it_made_again(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = cached.load()
    copy = cached.copy().path
    inode, real = copy.stat().st_ino, os.preadv

    def read(fd: int, views: list[memoryview], at: int) -> int:
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return real(fd, views, at)

    monkeypatch.setattr(os, "preadv", read)
    how, again = cached.load()
    assert how == "quantised"
    assert same(first, again)


def test_a_damaged_copy_that_cannot_be_deleted_costs_no_load(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = cached.load()
    path = cached.copy().path
    flip_in_data(path)
    real = Path.unlink

    def unlink(file: Path, *, missing_ok: bool = False) -> None:
        if file == path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        real(file, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    how, again = cached.load()
    assert how == "quantised"
    assert same(first, again)


def test_what_cannot_be_deleted_stays_and_the_rest_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone, kept, copy = (tmp_path / name for name in ("gone", "kept", "copy"))
    kept.mkdir()
    copy.write_bytes(b"1234")
    report = SpaceReport(dry_run=False)
    disposal._give_up([gone, kept, copy], report)
    assert [f.path for f in report.files] == [str(copy)]
    assert report.freed_bytes == 4
    assert not copy.exists()
    assert "kept is not deleted" in caplog.text


def test_a_folder_that_cannot_be_looked_into_holds_no_copies() -> None:
    nowhere = Path("/" + "x" * 300)
    assert quantised_store.copies(nowhere) == []
    assert list(quantised_store.leftovers(nowhere)) == []
