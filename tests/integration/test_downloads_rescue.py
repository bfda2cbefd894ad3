"""Bytes that are here already are not fetched: what others left, what the user names."""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job
from moshid.downloads.rescue import KEEP_BYTES, SMALL_BYTES
from moshid.downloads.spots import SPOT_BYTES, SPOTS
from moshid.downloads.states import JobState
from moshid.downloads.terms import Terms
from moshid.errors import InvalidParams
from moshid.events import Bus
from tests.fakes import url_jobs
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.repos import REPO, content, make_repo
from tests.fakes.web_files import WebFiles
from tests.integration.test_downloads import assert_in_cache, weights_partial
from tests.integration.test_downloads_repair import flip_byte

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 3_000_001
CHUNK = QUICK["auto"].chunk_bytes
CHECK = SPOTS * SPOT_BYTES
"""What it costs to compare a source with the server's bytes."""


class Place:
    """A Hub's repository, an empty cache, the weights' bytes and digest."""

    def __init__(self, tmp_path: Path, size: int = SIZE) -> None:
        self.root = tmp_path
        self.folder = make_repo(tmp_path / "hub", size)
        self.cache = tmp_path / "cache"
        self.data = (self.folder / WEIGHTS).read_bytes()
        self.etag = sha256(self.data).hexdigest()

    def left(self, data: bytes, name: str = "{}.incomplete", repo: str = REPO) -> Path:
        """A file beside the blobs of the cache, ``{}`` in its name stands for the digest."""
        blobs = self.cache / f"models--{repo.replace('/', '--')}" / "blobs"
        blobs.mkdir(parents=True, exist_ok=True)
        path = blobs / name.format(self.etag)
        path.write_bytes(data)
        return path

    async def fetch(self) -> Job:
        """One job for the weights; the right file is in the cache afterwards."""
        async with (
            DemoHub(self.root / "hub") as hub,
            running(make_service(self.root / "home", hub.endpoint, self.cache)) as service,
        ):
            job, _ = await service.start(REPO, files=[WEIGHTS])
            job = await service.wait(job.id)
        assert job.state is JobState.DONE, job.error
        got = Path(hf_hub_download(REPO, WEIGHTS, cache_dir=self.cache, local_files_only=True))
        assert got.read_bytes() == self.data
        return job


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where the tests of this module happen."""
    return Place(tmp_path)


@pytest.mark.parametrize("name", ["{}.incomplete", "{}.0123abcd.incomplete"])
async def test_what_huggingface_hub_left_is_used(place: Place, name: str) -> None:
    source = place.left(place.data[:2_000_000], name)
    before = source.stat()
    job = await place.fetch()
    assert job.bytes_rescued == 2_000_000
    assert job.bytes_fetched == SIZE - 2_000_000 + CHECK
    assert job.bytes_refetched == CHECK
    assert job.chunks_corrupt == 0
    assert source.read_bytes() == place.data[:2_000_000], "it is left as it was"
    after = source.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


async def test_zeros_that_fill_up_a_file_are_not_taken(place: Place) -> None:
    half = 5 * CHUNK + 100_000
    place.left(place.data[:half] + bytes(SIZE - half))
    job = await place.fetch()
    assert job.bytes_rescued == half
    assert (job.bytes_fetched, job.chunks_corrupt) == (SIZE - half + CHECK, 0)


async def test_ranges_written_out_of_order_are_taken(place: Place) -> None:
    part = place.left(b"")
    with part.open("r+b") as out:
        out.truncate(SIZE)
        for chunk in (1, 2, 7):
            out.seek(chunk * CHUNK)
            out.write(place.data[chunk * CHUNK :][:CHUNK])
    job = await place.fetch()
    assert job.bytes_rescued == 3 * CHUNK
    assert job.bytes_fetched == SIZE - 3 * CHUNK + CHECK


async def test_a_source_with_other_bytes_is_refused(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.left(content(2_500_000, seed=99))
    with caplog.at_level(logging.WARNING, "moshid.downloads.rescue"):
        job = await place.fetch()
    assert [r.getMessage() for r in caplog.records if r.name.startswith("moshid")] == [
        "a source is not used"
    ]
    assert (job.bytes_rescued, job.chunks_corrupt) == (0, 0)
    assert SIZE < job.bytes_fetched <= SIZE + 2 * SPOT_BYTES, "one look, and one more to be sure"


@pytest.mark.parametrize(("chunk", "most"), [(0, 4), (7, 8)])
async def test_one_bad_byte_of_a_source_does_not_cost_all_of_it(
    place: Place, chunk: int, most: int
) -> None:
    """Growing batches: a bad chunk costs at most about twice as many as lie before it."""
    source = place.left(place.data[: 11 * CHUNK])
    flip_byte(source, chunk * CHUNK + 100_001)
    job = await place.fetch()
    assert job.chunks_corrupt == 1
    assert job.bytes_refetched <= most * CHUNK + 2 * CHECK
    assert job.bytes_rescued == 11 * CHUNK


async def test_a_page_at_the_end_of_a_source_is_found_first(place: Place) -> None:
    """What an error page left there: the end is doubted before the rest."""
    place.left(place.data[: 8 * CHUNK + 1000] + b"<html>log in</html>" * 100)
    job = await place.fetch()
    assert job.chunks_corrupt == 1
    assert job.bytes_refetched <= 4 * CHUNK + 2 * CHECK


async def test_the_same_content_of_another_repository_is_used(place: Place) -> None:
    place.left(place.data, "{}", repo="org/fork")
    job = await place.fetch()
    assert (job.bytes_fetched, job.bytes_rescued) == (0, SIZE)


async def test_a_large_file_is_compared_and_then_taken(tmp_path: Path) -> None:
    place = Place(tmp_path, 20_000_000)
    place.left(place.data, "{}", repo="org/fork")
    job = await place.fetch()
    assert (job.bytes_fetched, job.bytes_rescued) == (CHECK, 20_000_000)


async def test_zeros_that_belong_to_a_file_are_taken_with_it(tmp_path: Path) -> None:
    place = Place(tmp_path, 20_000_000)
    data = bytearray(place.data)
    data[5_000_000:6_000_000] = bytes(1_000_000)
    (place.folder / WEIGHTS).write_bytes(data)
    place.data, place.etag = bytes(data), sha256(data).hexdigest()
    place.left(place.data, "{}", repo="org/fork")
    job = await place.fetch()
    assert (job.bytes_fetched, job.bytes_rescued) == (CHECK, 20_000_000)


async def test_what_is_rescued_is_not_copied_again(place: Place) -> None:
    place.left(place.data[:1_000_000])
    bus = Bus()
    async with (
        DemoHub(place.root / "hub", rate_bps=4_000_000) as hub,
        running(make_service(place.root / "home", hub.endpoint, place.cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_500_000))
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await moving
        paused = await service.pause(job.id)
        assert paused.bytes_rescued == 1_000_000
        await service.resume(job.id)
        job = await service.wait(job.id)
    assert job.bytes_rescued == 1_000_000
    assert job.bytes_fetched <= SIZE - 1_000_000 + 2 * CHECK
    assert_in_cache(place.folder, place.cache, WEIGHTS)


async def test_another_tools_damage_costs_no_whole_file(place: Place) -> None:
    """No digest of its chunks is known: suspects are fetched until one differs."""
    async with DemoHub(place.root / "hub") as hub:
        got = await asyncio.to_thread(
            hf_hub_download, REPO, WEIGHTS, endpoint=hub.endpoint, cache_dir=place.cache
        )
        flip_byte(Path(got).resolve(), 2 * CHUNK + 5)
        home = place.root / "home"
        async with running(make_service(home, hub.endpoint, place.cache)) as service:
            report = await service.verify(REPO, repair=True)
    assert report.ok
    assert report.repaired_bytes == 4 * CHUNK
    assert_in_cache(place.folder, place.cache, WEIGHTS)


async def test_a_partial_file_that_no_ledger_knows_is_read(place: Place) -> None:
    """Another home began it: content counts by its digest, whoever brought it."""
    bus = Bus()
    async with DemoHub(place.root / "hub", rate_bps=4_000_000) as hub:
        other = make_service(place.root / "other", hub.endpoint, place.cache, bus=bus)
        async with running(other) as service:
            moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_500_000))
            await service.start(REPO, files=[WEIGHTS], workers=1)
            await moving
        assert weights_partial(place.cache).stat().st_size == SIZE
    job = await place.fetch()
    assert job.bytes_rescued >= 1_500_000
    assert (job.bytes_rescued + job.bytes_fetched, job.chunks_corrupt) == (SIZE, 0)


async def fetch_from(place: Place, *sources: Path, size: int = SIZE) -> Job:
    """One job that is told where bytes may lie."""
    terms = Terms(sources=tuple(map(str, sources)))
    async with (
        DemoHub(place.root / "hub") as hub,
        running(make_service(place.root / "home", hub.endpoint, place.cache)) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS], terms=terms)
        job = await service.wait(job.id)
    assert job.state is JobState.DONE, job.error
    assert job.bytes_total == size
    assert_in_cache(place.folder, place.cache, WEIGHTS)
    return job


@pytest.mark.parametrize("name", ["pieces/chunk_{:04}", "pieces/model.safetensors.part{}"])
@pytest.mark.parametrize("first", [0, 1])
async def test_numbered_pieces_are_used(place: Place, name: str, first: int) -> None:
    piece = 200_000
    (place.root / "pieces").mkdir()
    kept = 0
    for i in range(0, SIZE, piece):
        number = i // piece
        if number not in (3, 4):
            data = place.data[i : i + piece]
            (place.root / name.format(number + first)).write_bytes(data)
            kept += len(data)
    job = await fetch_from(place, place.root / "pieces")
    lost_bytes = 2 * CHUNK  # of a chunk only what it begins with can be kept
    assert kept - lost_bytes <= job.bytes_rescued <= kept
    assert SIZE - job.bytes_rescued <= job.bytes_fetched <= SIZE - job.bytes_rescued + 3 * CHECK
    assert job.chunks_corrupt == 0


async def test_a_copy_that_the_user_names_costs_no_byte(place: Place) -> None:
    copy = place.root / "elsewhere" / "renamed"
    copy.parent.mkdir()
    copy.write_bytes(place.data)
    job = await fetch_from(place, copy.parent)
    assert (job.bytes_fetched, job.bytes_rescued) == (0, SIZE)


async def test_another_cache_is_a_source(place: Place) -> None:
    async with DemoHub(place.root / "hub") as hub:
        old = place.root / "old-cache"
        get = hf_hub_download
        await asyncio.to_thread(get, REPO, WEIGHTS, endpoint=hub.endpoint, cache_dir=old)
    job = await fetch_from(place, old)
    assert (job.bytes_fetched, job.bytes_rescued) == (0, SIZE)


async def test_a_damaged_copy_is_better_than_none(place: Place) -> None:
    copy = place.root / "copy"
    copy.write_bytes(place.data)
    flip_byte(copy, CHUNK + 3)
    job = await fetch_from(place, copy)
    assert job.chunks_corrupt == 1
    assert job.bytes_fetched == 4 * CHUNK + CHECK


async def test_a_source_can_be_named_while_the_job_runs(place: Place) -> None:
    bus, copy = Bus(), place.root / "copy"
    copy.write_bytes(place.data)
    async with (
        DemoHub(place.root / "hub", rate_bps=1_000_000) as hub,
        running(make_service(place.root / "home", hub.endpoint, place.cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 300_000))
        job, _ = await service.start(REPO, files=[WEIGHTS], workers=1)
        await moving
        terms = Terms(sources=(str(copy),))
        same, created = await service.start(REPO, files=[WEIGHTS], terms=terms)
        assert (same.id, created) == (job.id, False)
        job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert job.bytes_rescued > SIZE // 2
    assert_in_cache(place.folder, place.cache, WEIGHTS)


async def test_a_whole_file_needs_no_line(tmp_path: Path) -> None:
    """The Hub is gone before the bytes come; the digest tells that the copy is right."""
    place = Place(tmp_path, SMALL_BYTES + 1)
    copy, bus = place.root / "copy", Bus()
    copy.write_bytes(place.data)
    home = place.root / "home"
    async with (
        DemoHub(place.root / "hub", rate_bps=1_000_000) as hub,
        running(make_service(home, hub.endpoint, place.cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 300_000))
        job, _ = await service.start(REPO, files=[WEIGHTS], workers=1)
        await moving
    async with running(make_service(home, hub.endpoint, place.cache)) as service:
        terms = Terms(sources=(str(copy),))
        job, created = await service.start(REPO, files=[WEIGHTS], terms=terms)
        assert not created
        job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert_in_cache(place.folder, place.cache, WEIGHTS)


async def test_the_job_of_a_url_has_sources_too(tmp_path: Path) -> None:
    source, output = tmp_path / "voice.part", url_jobs.place(tmp_path)
    source.write_bytes(url_jobs.FILE[:1_000_000])
    with WebFiles(url_jobs.FILE) as web:
        async with running(url_jobs.service_at(tmp_path)) as service:
            terms = Terms(sources=(str(source),))
            job, _ = await service.urls.start(web.url(), url_jobs.RIGHT, str(output), terms=terms)
            job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert output.read_bytes() == url_jobs.FILE
    assert job.bytes_rescued == 1_000_000
    assert job.bytes_fetched == url_jobs.SIZE - 1_000_000 + CHECK


async def test_a_source_that_is_none_is_refused(place: Place) -> None:
    async with (
        DemoHub(place.root / "hub") as hub,
        running(make_service(place.root / "home", hub.endpoint, place.cache)) as service,
    ):
        for path in (str(place.root / "none"), "relative"):
            with pytest.raises(InvalidParams, match="from"):
                await service.start(REPO, terms=Terms(sources=(path,)))
        assert service.list() == []


async def test_a_partial_of_another_revision_is_used(tmp_path: Path) -> None:
    """The weights stayed the same over a push: what one job brought of them, the other has."""
    place, bus = Place(tmp_path), Bus()
    home = tmp_path / "home"
    async with (
        DemoHub(tmp_path / "hub", rate_bps=4_000_000) as hub,
        running(make_service(home, hub.endpoint, place.cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_500_000))
        first, _ = await service.start(REPO, workers=1)
        await moving
        paused = await service.pause(first.id)
    (place.folder / "config.json").write_text('{"dim": 257}')
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(home, hub.endpoint, place.cache)) as service,
    ):
        # the port is another one, so this is another Hub to the ledger as well
        second, created = await service.start(REPO)
        assert created
        second = await service.wait(second.id)
    assert second.state is JobState.DONE
    assert second.commit != first.commit
    assert second.bytes_rescued >= paused.bytes_done - 3 * CHUNK
    assert second.bytes_fetched + second.bytes_rescued <= second.bytes_total + CHECK


async def test_a_pause_in_the_middle_keeps_what_is_copied(tmp_path: Path) -> None:
    place, bus = Place(tmp_path, KEEP_BYTES + 3_000_000), Bus()
    place.left(place.data, "{}", repo="org/fork")
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, place.cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 0))
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await moving
        paused = await service.pause(job.id)
        assert paused.bytes_rescued >= KEEP_BYTES
        await service.resume(job.id)
        job = await service.wait(job.id)
    assert (job.state, job.bytes_rescued) == (JobState.DONE, job.bytes_total)
    assert job.bytes_fetched <= 2 * CHECK
