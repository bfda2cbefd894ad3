"""How a quantised copy comes to the disk: whole or not at all, and at no cost to the load."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from moshid.model import quantised_store, quantised_writer
from moshid.model.quantised_writer import Keep
from moshid.model.safetensors_header import TensorFacts
from tests.fakes.quantised_copies import Cached


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    return Cached(tmp_path)


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
