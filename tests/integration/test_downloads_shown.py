"""What the snapshot shows is what counts, to ``verify``, to a repair and to a new ``download``: a
blob of another size, a link that is gone, a plain file in its place.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job
from moshid.downloads.service import DownloadService
from moshid.downloads.states import FileState, JobState
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
CHUNK = QUICK["auto"].chunk_bytes
SIZE = 8 * CHUNK - 5


@asynccontextmanager
async def downloaded(folder: Path) -> AsyncIterator[tuple[DownloadService, Path, Job]]:
    """A model that was downloaded; its entry for the weights in the snapshot, and the job."""
    make_repo(folder / "hub", SIZE)
    async with (
        DemoHub(folder / "hub") as hub,
        running(make_service(folder / "home", hub.endpoint, folder / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        yield service, service.on_disk(REPO)[WEIGHTS], job
    assert_in_cache(folder / "hub" / REPO, folder / "cache", WEIGHTS)


async def again(service: DownloadService, *, repair: bool) -> int:
    """Repair, or download again; how many bytes were fetched."""
    (before,) = service.list()
    if repair:
        assert (await service.verify(REPO, repair=True)).ok
    else:
        job, _ = await service.start(REPO)
        assert (await service.wait(job.id)).state is JobState.DONE
    assert (await service.verify(REPO)).ok
    return service.get(before.id).bytes_fetched - before.bytes_fetched


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(("size", "cost"), [(SIZE - 1, CHUNK - 5), (SIZE + 3, 0), (0, SIZE)])
async def test_a_blob_of_another_size_costs_what_is_not_there(
    tmp_path: Path, size: int, cost: int, repair: bool
) -> None:
    async with downloaded(tmp_path) as (service, entry, _job):
        os.truncate(entry.resolve(), size)
        assert not (await service.verify(REPO)).ok
        assert await again(service, repair=repair) == cost


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("size", [None, 2, SIZE])
async def test_a_link_that_is_gone_or_a_wrong_file_in_its_place_is_put_right_for_nothing(
    tmp_path: Path, size: int | None, repair: bool
) -> None:
    async with downloaded(tmp_path) as (service, entry, _job):
        entry.unlink()
        if size is not None:
            entry.write_bytes(b"{}" + bytes(size - 2))
        report = await service.verify(REPO)
        assert [(f.path, f.missing) for f in report.files if not f.ok] == [(WEIGHTS, size is None)]
        if size == SIZE and not repair:  # a start looks at sizes
            repair = True
        assert await again(service, repair=repair) == 0
        assert entry.is_symlink()


async def test_a_plain_file_without_its_blob_gives_all_but_its_bad_chunks(tmp_path: Path) -> None:
    async with downloaded(tmp_path) as (service, entry, _job):
        content = bytearray(entry.read_bytes())
        content[CHUNK + 7] ^= 1
        entry.resolve().unlink()
        entry.unlink()
        entry.write_bytes(content)
        (bad,) = (f.bad_chunks for f in (await service.verify(REPO)).files if not f.ok)
        assert bad == [1]
        assert await again(service, repair=True) == CHUNK


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
async def test_what_is_no_file_is_missing_and_nobody_waits_for_it(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make_repo(tmp_path / "hub", 1000)
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        blob = service.on_disk(REPO)[WEIGHTS].resolve()
        blob.unlink()
        make(blob)
        async with asyncio.timeout(10):
            reports = await asyncio.gather(*(service.verify(REPO) for _ in range(10)))
        for report in reports:
            assert [f.path for f in report.files if f.missing] == [WEIGHTS]
        if make is os.mkfifo:
            assert await again(service, repair=True) == 1000


async def test_what_is_deleted_in_mid_download_is_fetched_again(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        some = asyncio.create_task(
            until(bus, lambda j: any(f.state is FileState.DONE for f in j.files))
        )
        job, _ = await service.start(REPO)
        await some
        shutil.rmtree(cache / f"models--{REPO.replace('/', '--')}")
        assert (await service.wait(job.id)).state is JobState.DONE
        assert (await service.verify(REPO)).ok
    for path in service.on_disk(REPO):
        assert_in_cache(folder, cache, path)


async def test_a_download_again_that_is_cancelled_does_not_call_done_what_is_gone(
    tmp_path: Path,
) -> None:
    make_repo(tmp_path / "hub", SIZE)
    bus = Bus()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus)
        ) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        service.on_disk(REPO)[WEIGHTS].resolve().unlink()
        some = asyncio.create_task(until(bus, lambda j: CHUNK < j.bytes_done < SIZE))
        await service.start(REPO)
        await some
        job = await service.cancel(job.id)
        states = {f.path: f.state for f in job.files}
        assert states.pop(WEIGHTS) is FileState.QUEUED
        assert set(states.values()) == {FileState.DONE}
        assert job.bytes_done < SIZE
