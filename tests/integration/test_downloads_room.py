"""No room, no volume: the job pauses, keeps what it has, and goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.disk import Partial
from moshid.downloads.displaced import put_back
from moshid.downloads.job import Job
from moshid.downloads.opening import Parts
from moshid.downloads.states import JobState
from moshid.errors import VolumeMissing
from moshid.events import Bus
from tests.fakes.downloads import PARTS, make_service, running, until
from tests.fakes.repos import REPO, content, make_repo
from tests.fakes.web_files import WebFiles
from tests.integration.test_downloads import assert_in_cache

WEIGHTS = "model.safetensors"
SIZE = 3_000_001
MIB = 1 << 20


class FakeVolume:
    """A volume that is told whether it is there, and how much room it has."""

    def __init__(self) -> None:
        self.there = True
        self.free = 1 << 40

    def present(self) -> bool:
        return self.there

    def free_bytes(self) -> int:
        return self.free

    def parts(self) -> Parts:
        """The seams of a service that lives on this volume."""
        return replace(PARTS, volume=lambda _folder, _mount: self)


@pytest.fixture
def tiny_volume(tmp_path: Path) -> Iterator[Path]:
    """A real volume of 8 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small volume; the fake one is tested too")
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.asyncio
async def test_a_url_on_a_full_volume_waits_for_room(tmp_path: Path, tiny_volume: Path) -> None:
    file, bus = content(SIZE), Bus()
    ballast, output = tiny_volume / "ballast", tiny_volume / "voice.bin"
    ballast.write_bytes(b"x" * (6 * MIB))
    service = make_service(tmp_path / "home", "http://127.0.0.1:9", tmp_path / "cache", bus=bus)
    with WebFiles(file) as web:
        async with running(service):
            full = asyncio.create_task(until(bus, paused_by("download.disk_full")))
            job, _ = await service.urls.start(web.url(), sha256(file).hexdigest(), str(output))
            shown = (await full).error
            assert shown is not None
            assert str(tiny_volume) in shown.message
            ballast.unlink()
            assert (await service.wait(job.id)).state is JobState.DONE
    assert output.read_bytes() == file


def paused_by(kind: str) -> Callable[[Job], bool]:
    """Whether a job is paused by an error of this kind."""
    return lambda j: j.state is JobState.PAUSED and j.error is not None and j.error.kind == kind


@pytest.mark.asyncio
async def test_a_full_disk_pauses_and_room_resumes(tmp_path: Path, tiny_volume: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tiny_volume / "cache", Bus()
    filler = tiny_volume / "filler"
    filler.write_bytes(b"\0" * (6 * MIB))
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        full = asyncio.create_task(until(bus, paused_by("download.disk_full")))
        job, _ = await service.start(REPO)
        paused = await full
        assert paused.error is not None
        assert paused.error.retryable
        filler.unlink()
        job = await service.wait(job.id)
        assert (job.state, job.bytes_refetched, job.error) == (JobState.DONE, 0, None)
    assert_in_cache(folder, cache, WEIGHTS, "config.json")


@pytest.mark.asyncio
async def test_a_disk_that_fills_in_mid_download_pauses_it(
    tmp_path: Path, tiny_volume: Path
) -> None:
    """Two files, room for one: what is there stays, what is not waits."""
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tiny_volume / "cache", Bus()
    (folder / "other.bin").write_bytes(b"x" * (6 * MIB))
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        full = asyncio.create_task(until(bus, paused_by("download.disk_full")))
        job, _ = await service.start(REPO, files=[WEIGHTS, "other.bin"])
        paused = await full
        assert paused.bytes_done <= SIZE + 6 * MIB
        assert (await service.cancel(job.id)).state is JobState.CANCELLED
        job, created = await service.start(REPO, files=[WEIGHTS])
        assert not created


@pytest.mark.asyncio
async def test_a_margin_is_left_to_others_and_a_small_one_by_a_small_file(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", SIZE)
    bus, volume = Bus(), FakeVolume()
    parts = replace(volume.parts(), margin_bytes=MIB)
    margin = min(MIB, SIZE // 32)
    volume.free = SIZE + margin - 1
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus, parts=parts)
        ) as service,
    ):
        full = asyncio.create_task(until(bus, paused_by("download.disk_full")))
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await full
        assert not list((tmp_path / "cache").rglob("*.part"))
        volume.free += 1
        assert (await service.wait(job.id)).state is JobState.DONE


@pytest.mark.asyncio
async def test_a_missing_volume_pauses_even_over_a_restart(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    volume, home = FakeVolume(), tmp_path / "home"
    volume.there = False
    async with DemoHub(tmp_path / "hub") as hub:
        service = make_service(home, hub.endpoint, cache, bus=bus, parts=volume.parts())
        async with running(service):
            missing = asyncio.create_task(until(bus, paused_by("download.volume_missing")))
            job, _ = await service.start(REPO)
            await missing
        service = make_service(home, hub.endpoint, cache, bus=bus, parts=volume.parts())
        async with running(service):
            assert paused_by("download.volume_missing")(service.get(job.id))
            volume.there = True
            assert (await service.wait(job.id)).state is JobState.DONE
    assert_in_cache(folder, cache, WEIGHTS)


@pytest.mark.asyncio
async def test_a_user_who_paused_is_not_overruled(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", SIZE)
    bus, volume = Bus(), FakeVolume()
    volume.free = 0
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(
            make_service(
                tmp_path / "home", hub.endpoint, tmp_path / "c", bus=bus, parts=volume.parts()
            )
        ) as service,
    ):
        full = asyncio.create_task(until(bus, paused_by("download.disk_full")))
        job, _ = await service.start(REPO)
        await full
        job = await service.pause(job.id)
        assert job.error is None
        volume.free = 1 << 40
        other, _ = await service.start(REPO, revision=job.commit)
        assert other.id == job.id
        assert (await service.wait(job.id)).state is JobState.DONE


@pytest.mark.asyncio
async def test_a_repository_on_another_volume_than_the_cache(
    tmp_path: Path, tiny_volume: Path
) -> None:
    """Users link a large model's folder to another disk; no rename leads there."""
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    (tiny_volume / "parrot").mkdir()
    cache.mkdir()
    (cache / "models--org--parrot").symlink_to(tiny_volume / "parrot")
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, parts=PARTS)) as service,
    ):
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert (job.state, job.error) == (JobState.DONE, None)
    assert_in_cache(folder, cache, WEIGHTS, "config.json")
    assert not list((cache / ".locks" / "moshid").iterdir())
    assert not list(tiny_volume.rglob("*.new"))


@pytest.mark.asyncio
async def test_an_unplugged_volume_is_not_an_empty_cache(tmp_path: Path) -> None:
    folder, cache, volume = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", FakeVolume()
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, cache, parts=volume.parts())
        ) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        volume.there = False
        cache.rename(tmp_path / "unplugged")
        with pytest.raises(VolumeMissing):
            await service.verify(REPO, repair=True)
        with pytest.raises(VolumeMissing):
            await service.space.delete([REPO])
        with pytest.raises(VolumeMissing):
            await service.space.prune([REPO])
        volume.there = True
        (tmp_path / "unplugged").rename(cache)
        assert (await service.verify(REPO)).ok
    assert_in_cache(folder, cache, WEIGHTS, "config.json")


def test_what_was_deleted_is_not_put_back_onto_a_volume_without_room(tiny_volume: Path) -> None:
    partial = Partial.open(tiny_volume / "x.part", 6 * MIB)
    partial.write(0, [b"x" * (6 * MIB)])
    partial.path.unlink()
    assert not put_back(partial)
    assert list(tiny_volume.iterdir()) == []
    partial.close()


def use_up_names(volume: Path) -> None:
    """Take all that is left of the files that the volume may hold."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=64", volume], check=True)
    (volume / "others").mkdir()
    with contextlib.suppress(OSError):
        for number in range(64):
            (volume / "others" / str(number)).touch()


@pytest.mark.asyncio
async def test_a_home_without_room_pauses_the_job_until_there_is(
    tmp_path: Path, tiny_volume: Path
) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tiny_volume / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        use_up_names(tiny_volume)
        full = asyncio.create_task(until(bus, paused_by("download.disk_full")))
        job, _ = await service.start(REPO)
        error = (await full).error
        assert error is not None
        assert "MOSHID_HOME" in error.message
        for file in (tiny_volume / "others").iterdir():
            file.unlink()
        assert (await service.wait(job.id)).state is JobState.DONE
    assert_in_cache(folder, cache, WEIGHTS)
