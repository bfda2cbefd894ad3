"""The cache's volume: there or not, whatever the system says; where it is; how full."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moshid.downloads.cache import Cache
from moshid.downloads.disk_room import open_with_room
from moshid.downloads.engine import check_present
from moshid.downloads.job import Job, JobFile
from moshid.downloads.ledger import Blob, Ledger
from moshid.downloads.mounts import known_mount, look_again
from moshid.downloads.resting import may_go_on
from moshid.downloads.tally import Tally
from moshid.downloads.volume import (
    FolderVolume,
    MountedVolume,
    allocated_bytes,
    free_bytes_at,
    mount_point_of,
    stat_of,
)
from moshid.errors import DiskFull, PartialLocked, VolumeMissing
from tests.fakes.bare_engine import bare_engine

ETAG = "e" * 64
UNTOUCHABLE = Path("/" + "x" * 300)
"""A path at which the system refuses even to look."""


def test_a_path_that_cannot_be_looked_at_is_not_there() -> None:
    with pytest.raises(OSError, match="too long"):
        UNTOUCHABLE.exists()
    assert not MountedVolume(UNTOUCHABLE, UNTOUCHABLE).present()
    assert not FolderVolume(UNTOUCHABLE).present()
    assert mount_point_of(UNTOUCHABLE) == Path("/")
    assert free_bytes_at(UNTOUCHABLE) == free_bytes_at(Path("/"))
    assert allocated_bytes(UNTOUCHABLE) == 0


def test_a_file_in_a_folders_place_has_no_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    assert stat_of(tmp_path / "cache" / "blob") is None
    assert allocated_bytes(tmp_path / "cache" / "blob") == 0


@pytest.mark.asyncio
async def test_a_disk_that_was_plugged_in_later_is_remembered(tmp_path: Path) -> None:
    folder = Path("/dev") / "hub"  # a volume of its own on every system
    async with bare_engine(tmp_path, Blob(ETAG, 1000, 500, "boot", 1, 2)) as bare:
        await bare.ledger.call(Ledger.set_meta, f"mount:{folder}", "/")
        known = await known_mount(bare.ledger, bare.disk, folder)
        assert known == Path("/"), "as it was before there was a disk"
        volume = MountedVolume(folder, known)
        engine = replace(bare, volume=volume)
        await look_again(engine)
        assert volume.mount_point == Path("/dev")
        assert await known_mount(engine.ledger, engine.disk, folder) == Path("/dev")
        volume.mount_point = tmp_path / "unplugged"
        await look_again(engine)
        assert volume.mount_point == tmp_path / "unplugged", "an unplugged disk is not forgotten"
        with pytest.raises(VolumeMissing):
            await check_present(engine)


def test_a_copy_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    blob = cache.blob("org/name", ETAG)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(bytes(3 << 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            cache.seed("org/name", ETAG, 3 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [blob]


class Full(FolderVolume):
    """A volume that is full."""

    def free_bytes(self) -> int:
        return 0


@pytest.mark.asyncio
async def test_a_full_volume_is_not_filled_further_by_a_copy(tmp_path: Path) -> None:
    async with bare_engine(tmp_path, Blob(ETAG, 1000, 500, "boot", 1, 2)) as bare:
        engine = replace(bare, volume=Full(tmp_path))
        blob = engine.shelf.blob("org/name", ETAG)
        blob.parent.mkdir(parents=True)
        blob.write_bytes(b"x" * 1000)
        with pytest.raises(DiskFull):
            await open_with_room(engine, "org/name", ETAG, 1000, 0)
        assert not engine.shelf.partial(ETAG).exists()


class Roomy(FolderVolume):
    """A volume without end."""

    def free_bytes(self) -> int:
        return 1 << 62


@pytest.mark.asyncio
async def test_a_repository_on_a_smaller_volume_waits_for_room_there(tmp_path: Path) -> None:
    job = Job("id", "org/name", "main", files=[JobFile("f", 1 << 50, ETAG)])
    async with bare_engine(tmp_path, Blob(ETAG, 1000, 500, "boot", 1, 2)) as bare:
        engine = replace(bare, volume=Roomy(tmp_path))
        assert await may_go_on(engine, job, 0)
        repo = engine.shelf.blob("org/name", ETAG).parents[1]
        repo.symlink_to("/dev")
        assert not await may_go_on(engine, job, 0)


def be_impatient(ledger: Ledger) -> None:
    """Wait for nobody."""
    ledger._db.execute("PRAGMA busy_timeout = 0")


@pytest.mark.asyncio
async def test_a_ledger_that_another_program_holds_is_not_broken(tmp_path: Path) -> None:
    async with bare_engine(tmp_path, Blob(ETAG, 1000, 500, "boot", 1, 2)) as engine:
        await engine.ledger.call(be_impatient)
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(PartialLocked, match="another program"):
            await engine.ledger.call(Ledger.set_meta, "a", "b")
        other.close()
        await engine.ledger.call(Ledger.set_meta, "a", "b")


def test_a_count_survives_what_happens_to_its_file(tmp_path: Path) -> None:
    tally = Tally(tmp_path / "tally")
    tally.count = 7
    (tmp_path / "tally").write_bytes(b"")
    assert tally.count == 7
    tally.count = 8
    tally.close()
    tally = Tally(tmp_path / "tally")
    assert tally.count == 8
    tally.close()


def test_a_count_is_taken_while_the_disk_stands_still(tmp_path: Path) -> None:
    path, due = tmp_path / "tally", list[Callable[[], None]]()
    tally = Tally(path, due.append)
    for count in (7, 8, 9):
        tally.count = count
    assert (tally.count, path.read_bytes(), len(due)) == (9, bytes(8), 1)
    due.pop()()
    tally.count = 10
    due.pop()()
    tally.close()
    tally = Tally(path)
    assert tally.count == 10
    tally.close()
