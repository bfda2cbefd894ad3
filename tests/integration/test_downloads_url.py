"""Jobs of URLs against plain web servers: the same engine, one output, nothing else touched."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.states import FileState, JobState
from moshid.errors import OutputUnusable
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.repos import REPO, make_repo
from tests.fakes.url_jobs import (
    CHUNK_BYTES,
    FILE,
    RIGHT,
    SIZE,
    beside,
    held_back,
    place,
    service_at,
)
from tests.fakes.web_files import WebFiles

pytestmark = pytest.mark.asyncio


async def test_a_job_in_the_cache_with_the_same_digest_is_left_alone(tmp_path: Path) -> None:
    output, bus = place(tmp_path), Bus()
    weights = (make_repo(tmp_path / "hub", SIZE) / "model.safetensors").read_bytes()
    async with DemoHub(tmp_path / "hub", rate_bps=2_000_000) as hub:
        service = make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus)
        with WebFiles(weights, hold_after=600_000) as web:
            async with running(service):
                moving = asyncio.create_task(held_back(bus, 500_000))
                cached, _ = await service.start(REPO, files=["model.safetensors"])
                await moving
                cached = await service.pause(cached.id)
                moving = asyncio.create_task(
                    until(bus, lambda j: bool(j.repo == web.url() and j.bytes_done))
                )
                digest = sha256(weights).hexdigest()
                job, _ = await service.urls.start(web.url(), digest, str(output))
                await moving
                await service.cancel(job.id)
                assert beside(output) == []
                await service.resume(cached.id)
                done = await service.wait(cached.id)
                assert (done.state, done.bytes_refetched) == (JobState.DONE, 0)
                assert done.bytes_fetched == SIZE


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
async def test_a_file_arrives_from_any_server(tmp_path: Path, ranges: bool, length: bool) -> None:
    output, bus = place(tmp_path), Bus()
    with WebFiles(FILE, ranges=ranges, length=length) as web:
        async with running(service_at(tmp_path, bus=bus)) as service:
            job, created = await service.urls.start(web.url(), RIGHT.upper(), str(output))
            job = await service.wait(job.id)
            assert (created, job.state, job.error) == (True, JobState.DONE, None)
            assert (job.repo, job.revision, job.commit) == (web.url(), "", RIGHT)
            (file,) = job.files
            assert (file.path, file.size, file.digest) == (str(output), SIZE, RIGHT)
            assert job.bytes_total == job.bytes_done == SIZE
            assert file.chunks_total == -(-SIZE // CHUNK_BYTES)
            if ranges:
                assert (job.bytes_fetched, job.bytes_refetched) == (SIZE, 0)
            assert service.get(web.url()) == job
            assert bus.snapshot(["download"])["download"]["jobs"] == [job.to_json()]
    assert output.read_bytes() == FILE
    assert beside(output) == []
    assert not (tmp_path / "cache").exists()


async def test_redirects_are_followed_and_the_same_again_is_the_same_job(tmp_path: Path) -> None:
    output = place(tmp_path)
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url("/moved#part"), RIGHT, str(output))
            done = await service.wait(job.id)
            assert (done.state, done.repo) == (JobState.DONE, web.url("/moved"))
            assert {p for p, _ in web.seen} == {"/moved", "/file.bin?signature=a%2Bb"}
            asked = len(web.seen)
            assert [p for p, _ in web.seen].count("/moved") == 2, "chunks come from where it led"
            again, created = await service.urls.start(
                web.url("/moved"), RIGHT, f"{output.parent}/./{output.name}"
            )
            assert (again.id, created) == (job.id, False)
            assert await service.wait(job.id) == done
            assert len(web.seen) == asked
        async with running(service_at(tmp_path)) as service:
            assert service.list() == [done], "the ledger remembers all of it"


async def test_a_right_output_is_used_as_it_is(tmp_path: Path) -> None:
    output = place(tmp_path)
    output.write_bytes(FILE)
    inode = output.stat().st_ino
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            job = await service.wait(job.id)
        assert web.seen == []
    assert (job.state, job.bytes_fetched, job.bytes_rescued) == (JobState.DONE, 0, SIZE)
    assert (output.stat().st_ino, output.read_bytes()) == (inode, FILE)


async def test_no_password_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url("/moved"), RIGHT, str(place(tmp_path)))
            assert (await service.wait(job.id)).state is JobState.DONE
        assert len(web.seen) > 5
        assert not any({"authorization", "cookie"} & set(headers) for _path, headers in web.seen)


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    output = place(tmp_path)
    with WebFiles(b"", ranges=False) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url(), sha256(b"").hexdigest(), str(output))
            assert (await service.wait(job.id)).state is JobState.DONE
    assert output.read_bytes() == b""


async def test_pause_stop_and_cancel(tmp_path: Path) -> None:
    output, bus = place(tmp_path), Bus()
    hidden = output.with_name(f".voice.bin.{RIGHT[:8]}.moshid-part")
    with WebFiles(FILE, hold_after=600_000) as web:
        async with running(service_at(tmp_path, bus=bus)) as service:
            moving = asyncio.create_task(held_back(bus))
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            await moving
            with pytest.raises(OutputUnusable, match=job.id):
                await service.urls.start(web.url("/moved"), RIGHT, str(output))
            paused = await service.pause(job.id)
            assert (paused.state, beside(output)) == (JobState.PAUSED, [hidden])
            await service.resume(web.url())
        bus = Bus()
        async with running(service_at(tmp_path, bus=bus)) as service:
            (found,) = service.list()
            assert (found.id, found.repo, found.bytes_done > 0) == (job.id, web.url(), True)
            web.go.set()
            done = await service.wait(job.id)
            assert (done.state, done.bytes_fetched, done.bytes_refetched) == (
                (JobState.DONE, SIZE, 0)
            )
        assert output.read_bytes() == FILE
        assert beside(output) == []


async def test_cancel_deletes_its_own_partial_only(tmp_path: Path) -> None:
    output, bus = place(tmp_path), Bus()
    other = output.with_name("twin.bin")
    with WebFiles(FILE, hold_after=600_000) as web:
        async with running(service_at(tmp_path, bus=bus)) as service:
            first, _ = await service.urls.start(web.url(), RIGHT, str(output))
            await until(bus, lambda j: j.id == first.id and j.bytes_done > 100_000)
            second, created = await service.urls.start(web.url(), RIGHT, str(other))
            assert created
            await until(bus, lambda j: j.id == second.id and j.files != [])
            cancelled = await service.cancel(first.id)
            assert (cancelled.state, cancelled.bytes_done) == (JobState.CANCELLED, 0)
            web.go.set()
            assert (await service.wait(second.id)).state is JobState.DONE
            assert beside(other) == []
            again, created = await service.urls.start(web.url(), RIGHT, str(output))
            assert (again.id, created) == (first.id, False)
            assert (await service.wait(first.id)).state is JobState.DONE
    assert output.read_bytes() == other.read_bytes() == FILE


async def test_a_fetch_of_a_deleted_output_that_is_cancelled_is_not_shown_as_done(
    tmp_path: Path,
) -> None:
    output, bus = place(tmp_path), Bus()
    with WebFiles(FILE, hold_after=600_000) as web:
        web.go.set()
        async with running(service_at(tmp_path, bus=bus)) as service:
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            await service.wait(job.id)
            output.unlink()
            web.go.clear()
            partly = asyncio.create_task(until(bus, lambda j: j.bytes_done < SIZE))
            await service.urls.start(web.url(), RIGHT, str(output))
            await partly
            job = await service.cancel(job.id)
            assert ([f.state for f in job.files], job.bytes_done) == ([FileState.QUEUED], 0)
            web.go.set()


async def test_one_flipped_byte_costs_one_chunk(tmp_path: Path) -> None:
    output = place(tmp_path)
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            await service.wait(job.id)
            assert (await service.verify(job.id)).ok
            damaged = bytearray(FILE)
            damaged[CHUNK_BYTES + 5] ^= 1
            output.write_bytes(damaged)
            report = await service.verify(web.url())
            assert (report.ok, report.files[0].bad_chunks) == (False, [1])
            assert output.read_bytes() == damaged, "looking changes nothing"
            report = await service.verify(job.id, repair=True)
            assert (report.ok, report.repaired_bytes) == (True, CHUNK_BYTES)
            output.unlink()
            assert (await service.verify(job.id)).files[0].missing
            assert (await service.verify(job.id, repair=True)).ok
    assert output.read_bytes() == FILE
    assert beside(output) == []
