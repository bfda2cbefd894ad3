"""Verification and repair: one flipped byte costs one chunk, on disk or on arrival."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from moshid.demo.hub import DemoHub
from moshid.downloads.states import JobState
from moshid.errors import NoSuchJob
from moshid.events import Bus
from tests.fakes.downloads import PARTS, QUICK, make_service, running, until
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache, weights_partial

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 3_000_001
CHUNK = QUICK["auto"].chunk_bytes


def flip_byte(path: Path, offset: int) -> None:
    """Damage one byte, as a bad disk does: nothing of the file's times changes."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


async def test_one_flipped_byte_costs_one_chunk(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        assert (await service.verify(REPO)).ok
        flip_byte(service.on_disk(REPO)[WEIGHTS].resolve(), 5 * CHUNK + 17)
        report = await service.verify(REPO)
        assert not report.ok
        bad = {f.path: f.bad_chunks for f in report.files if not f.ok}
        assert bad == {WEIGHTS: [5]}
        report = await service.verify(job.id, repair=True)
        assert report.ok
        assert report.repaired_bytes == CHUNK
        job = service.get(job.id)
        assert (job.state, job.chunks_corrupt, job.bytes_refetched) == (JobState.DONE, 1, CHUNK)
    assert_in_cache(folder, cache, WEIGHTS)


async def test_a_deleted_file_is_missing_and_comes_back(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", 1000), tmp_path / "cache"
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        await service.wait(job.id)
        service.on_disk(REPO)[WEIGHTS].resolve().unlink()
        report = await service.verify(REPO)
        assert [f.path for f in report.files if f.missing] == [WEIGHTS]
        assert (await service.verify(REPO, repair=True)).ok
    assert_in_cache(folder, cache, WEIGHTS)


async def test_another_tools_damage_is_found_and_repaired(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        got = await asyncio.to_thread(
            hf_hub_download, REPO, WEIGHTS, endpoint=hub.endpoint, cache_dir=cache
        )
        async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
            assert (await service.verify(REPO)).ok
            flip_byte(Path(got).resolve(), 1000)
            assert not (await service.verify(REPO)).ok
            assert service.list() == []
            assert (await service.verify(REPO, repair=True)).ok
            with pytest.raises(NoSuchJob):
                await service.verify("org/none")
    assert_in_cache(folder, cache, WEIGHTS)


async def test_bad_chunks_of_a_paused_job_are_named_and_fetched_again(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 2_000_000))
        job, _ = await service.start(REPO, workers=1)
        await moving
        await service.pause(job.id)
        flip_byte(weights_partial(cache), CHUNK + 5)
        report = await service.verify(job.id)
        assert {f.path: f.bad_chunks for f in report.files if f.bad_chunks} == {WEIGHTS: [1]}
        report = await service.verify(job.id, repair=True)
        assert report.ok
        assert service.get(job.id).bytes_refetched == CHUNK
    assert_in_cache(folder, cache, WEIGHTS)


async def test_what_has_not_come_yet_is_neither_right_nor_fetched_by_a_repair(
    tmp_path: Path,
) -> None:
    """Nor is the beginning of a chunk taken for right unread."""
    make_repo(tmp_path / "hub", SIZE)
    cache, bus = tmp_path / "cache", Bus()
    profiles = {"auto": replace(QUICK["auto"], chunk_bytes=4_000_000)}
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, cache, bus=bus, profiles=profiles)
        ) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_500_000))
        job, _ = await service.start(REPO, files=[WEIGHTS], workers=1)
        await moving
        await service.pause(job.id)
        job = service.get(job.id)
        for repair in (False, True):
            report = await service.verify(job.id, repair=repair)
            (file,) = report.files
            assert (report.ok, report.state) == (True, JobState.PAUSED)
            assert file.missing_bytes == SIZE - job.bytes_done > 0
        flip_byte(weights_partial(cache), 5)
        (file,) = (await service.verify(job.id)).files
        assert (file.ok, file.bad_chunks) == (False, [0])
        report = await service.verify(job.id, repair=True)
        assert (report.ok, report.state) == (True, JobState.DONE)
        assert report.files[0].missing_bytes == 0


async def test_a_file_that_has_not_begun_is_for_the_job_and_not_for_a_repair(
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
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 0))
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await moving
        await service.cancel(job.id)
        report = await service.verify(job.id, repair=True)
        assert (report.ok, report.state) == (False, JobState.CANCELLED)
        assert [(f.missing, f.missing_bytes) for f in report.files] == [(True, SIZE)]


@pytest.mark.parametrize("boots", [("a", "b"), ("a", "a"), ("", "")])
async def test_after_a_new_boot_done_chunks_are_read_before_they_are_trusted(
    tmp_path: Path, boots: tuple[str, str]
) -> None:
    """In the same boot the damage is found too, but only by the whole file's digest."""
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    home = tmp_path / "home"
    before, after = (replace(PARTS, boot_id=partial(str, b)) for b in boots)
    async with DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub:
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 2_000_000))
        first = make_service(home, hub.endpoint, cache, bus=bus, parts=before)
        async with running(first) as service:
            job, _ = await service.start(REPO, workers=1)
            await moving
        flip_byte(weights_partial(cache), CHUNK + 5)
        bus = Bus()
        events = bus.subscribe(["download"])
        second = make_service(home, hub.endpoint, cache, bus=bus, parts=after)
        async with running(second) as service:
            job = await service.wait(job.id)
        assert (job.state, job.chunks_corrupt, job.bytes_refetched) == (JobState.DONE, 1, CHUNK)
        states = [(await events.take()).event.data["job"]["state"] for _ in range(len(events))]
        assert ("repairing" in states) == (boots == ("a", "a"))
    assert_in_cache(folder, cache, WEIGHTS)


async def test_a_damaged_prefix_of_a_chunk_is_not_trusted(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    profiles = {"auto": replace(QUICK["auto"], chunk_bytes=4_000_000)}
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, cache, bus=bus, profiles=profiles)
        ) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_500_000))
        job, _ = await service.start(REPO, workers=1)
        await moving
        await service.pause(job.id)
        flip_byte(weights_partial(cache), 5)
        events = bus.subscribe(["download"])
        await service.resume(job.id)
        job = await service.wait(job.id)
        states = {(await events.take()).event.data["job"]["state"] for _ in range(len(events))}
        assert "repairing" not in states, "it was found before it could spoil the whole"
        assert (job.state, job.chunks_corrupt) == (JobState.DONE, 1)
        assert job.bytes_refetched > 1_000_000
    assert_in_cache(folder, cache, WEIGHTS)
