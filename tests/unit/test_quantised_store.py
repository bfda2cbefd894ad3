"""Quantised copies on disk: made atomically, found again, told apart, made again when damaged."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections import namedtuple
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid import disposal
from moshid.downloads.space import SpaceReport
from moshid.errors import BadCheckpoint
from moshid.model import quantise, quantised_store, quantised_writer, weights
from moshid.model.load_progress import Advance
from moshid.model.quantised_store import Copy
from moshid.model.quantised_writer import Keep, Outcome
from moshid.model.safetensors_header import TensorFacts
from tests.fakes import small_models

DIGEST = "ab" * 32
REPO = "org/model"


class Cached:
    """A random bf16 model as the Hub cache holds it, loaded as q4 again and again."""

    def __init__(self, root: Path) -> None:
        hub = root / "hub"
        repo = hub / "models--org--model"
        self.blob = repo / "blobs" / DIGEST
        self.weights = repo / "snapshots" / ("c" * 40) / "model.safetensors"
        for file in (self.blob, self.weights):
            file.parent.mkdir(parents=True)
        small_models.write_checkpoint(root / "made")
        (root / "made" / "model.safetensors").rename(self.blob)
        self.weights.symlink_to(Path("../../blobs") / DIGEST)
        self.folder = quantised_store.folder_beside(hub)
        self.outcomes: list[Outcome] = []
        self.stages: list[str] = []

    def load(self, quality: str = "q4") -> tuple[str, dict[str, Any]]:
        """How the weights came, and what they are, once the copy is over."""
        lm = models.Lm(models.LmConfig.from_config_dict(small_models.config()))
        lm.set_dtype(mx.bfloat16)
        quantise.quantise_modules(lm, quality)
        self.stages.clear()

        def tell(advance: Advance) -> None:
            self.stages.append(advance.stage)

        keep = Keep(self.folder, self.outcomes.append)
        filled = weights.fill(lm, self.weights, quality, tell, keep)
        if filled.writer is not None:
            filled.writer.outcome()
        return filled.how, dict(tree_flatten(lm.parameters()))

    def copy(self) -> Copy:
        """The only one."""
        (copy,) = quantised_store.copies(self.folder)
        return copy


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


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_costs_the_copy_not_the_load(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(9, 8, 1))
    how, _ = cached.load()
    assert how == "quantised"
    (outcome,) = cached.outcomes
    assert outcome.error == "No space left on device"
    assert outcome.size_bytes > 100_000
    assert list(cached.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("volume_bytes", "margin_bytes"),
    [
        (10**9, 256 * 1024**2),
        (100 * 10**9, 5 * 10**9),
        (4000 * 10**9, 10 * 10**9),
    ],
)
def test_a_copy_leaves_room_on_the_disk(
    cached: Cached, monkeypatch: pytest.MonkeyPatch, volume_bytes: int, margin_bytes: int
) -> None:
    """Too little for a copy of some 100 kB, then enough."""
    free_bytes = [margin_bytes]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _path: Usage(volume_bytes, 0, free_bytes.pop())
    )
    cached.load()
    assert cached.outcomes[-1].error == "No space left on device"
    free_bytes.append(margin_bytes + 10_000_000)
    cached.load()
    assert cached.outcomes[-1].error is None


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/full takes no byte: it stands where the new file would be written."""
    real = os.open

    def redirected(path: Any, *how: Any) -> int:
        return real("/dev/full", os.O_RDWR) if str(path).endswith(".new") else real(path, *how)

    monkeypatch.setattr(os, "open", redirected)
    how, _ = cached.load()
    assert how == "quantised"
    assert cached.outcomes[0].error == "No space left on device"
    assert list(cached.folder.iterdir()) == []


def test_a_place_that_cannot_be_written_costs_the_copy_not_the_load(cached: Cached) -> None:
    cached.folder.write_text("in the way")
    how, _ = cached.load()
    assert how == "quantised"
    assert cached.outcomes[0].error == "File exists"


def half_written(cached: Cached) -> quantised_writer.CopyWriter:
    """A copy under way, of whose two tensors one has come."""
    source = quantised_store.source_of(cached.weights)
    facts = {name: TensorFacts("F32", (4,), 16) for name in "ab"}
    writer = quantised_writer.CopyWriter(Keep(cached.folder), source, "q4", facts)
    writer.start()
    writer.put("a", memoryview(bytes(16)))
    return writer


def test_who_began_a_copy_may_wait_for_its_end_but_not_for_ever(cached: Cached) -> None:
    begun: list[quantised_writer.CopyWriter] = []
    source = quantised_store.source_of(cached.weights)
    keep = Keep(cached.folder, begun=begun.append)
    writer = quantised_writer.CopyWriter(keep, source, "q4", {"a": TensorFacts("F32", (4,), 16)})
    writer.start()
    assert begun == [writer]
    assert not writer.ended_within(0.0)
    writer.put("a", memoryview(bytes(16)))
    writer.finish()
    assert writer.ended_within(60.0)
    assert len(list(cached.folder.iterdir())) == 1


def test_a_copy_is_synced_as_it_grows(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its end, for which an unload waits, is near when its last tensor comes."""
    syncs: list[int] = []
    monkeypatch.setattr(quantised_writer, "SYNC_BYTES", 1)
    monkeypatch.setattr(os, "fsync", syncs.append)
    writer = half_written(cached)
    writer.put("b", memoryview(bytes(16)))
    writer.finish()
    writer.outcome()
    assert len(syncs) >= 3


def test_a_load_that_fails_leaves_no_copy(cached: Cached) -> None:
    size = cached.blob.stat().st_size
    writer = half_written(cached)
    writer.abandon()
    assert list(cached.folder.iterdir()) == []
    assert cached.blob.stat().st_size == size


def test_a_copy_that_lacks_a_tensor_gets_no_name(cached: Cached) -> None:
    writer = half_written(cached)
    writer.finish()
    writer.outcome()
    assert list(cached.folder.iterdir()) == []


def test_what_a_killed_writer_left_goes_unless_somebody_writes_it(cached: Cached) -> None:
    cached.folder.mkdir()
    left, written = cached.folder / "x.safetensors.1.new", cached.folder / "y.safetensors.2.new"
    left.write_bytes(b"half")
    written.write_bytes(b"half")
    with written.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert list(quantised_store.leftovers(cached.folder)) == [left]
        cached.load()
        assert not left.exists()
        assert written.exists()
    assert list(quantised_store.leftovers(cached.folder)) == [written]


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


@pytest.mark.parametrize(
    ("refusal", "copied"),
    [(errno.ENOTSUP, True), (errno.EINVAL, True), (errno.ENOTTY, True), (errno.EIO, False)],
)
def test_a_volume_without_full_syncs_gets_a_plain_one(
    cached: Cached, monkeypatch: pytest.MonkeyPatch, refusal: int, copied: bool
) -> None:
    full, real_fcntl, real_fsync = 51, fcntl.fcntl, os.fsync
    synced: list[int] = []

    def control(fd: int, command: int, *more: Any) -> Any:
        if command == full:
            raise OSError(refusal, os.strerror(refusal))
        return real_fcntl(fd, command, *more)

    def fsync(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        real_fsync(fd)

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", full, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", fsync)
    cached.load()
    (outcome,) = cached.outcomes
    assert (outcome.error is None) is copied
    assert (outcome.size_bytes in synced) is copied
    assert len(quantised_store.copies(cached.folder)) == copied


def test_a_folder_that_refuses_to_be_synced_costs_no_copy(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    cached.load()
    assert cached.outcomes[0].error is None
    assert cached.load()[0] == "copy"
