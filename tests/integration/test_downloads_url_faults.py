"""Jobs of URLs when something is in the way: the output, the server, the line, another daemon."""

from __future__ import annotations

import asyncio
import os
import socket
from hashlib import sha256
from pathlib import Path

import pytest

from moshid.downloads.refusals import REFUSALS_MAX
from moshid.downloads.states import JobState
from moshid.errors import InvalidParams, OutputUnusable
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.url_jobs import (
    FILE,
    RIGHT,
    SIZE,
    beside,
    failed_by,
    held_back,
    place,
    service_at,
    shows,
)
from tests.fakes.web_files import WebFiles

pytestmark = pytest.mark.asyncio


async def test_what_cannot_be_an_output_is_refused_at_once(tmp_path: Path) -> None:
    output = place(tmp_path)
    output.write_bytes(b"mine")
    dangling = output.with_name("dangling")
    dangling.symlink_to("nowhere")
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            for path, why in [
                (output, "another file"),
                (dangling, "another file"),
                (output.parent, "is a folder"),
                (tmp_path / "none" / "f", "no folder"),
                (output / "f", "no folder"),
            ]:
                with pytest.raises(OutputUnusable, match=why):
                    await service.urls.start(web.url(), RIGHT, str(path))
            with pytest.raises(InvalidParams, match="no profile"):
                await service.urls.start(web.url(), RIGHT, str(output), profile="warp")
            assert service.list() == []
        assert web.seen == []
    assert output.read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_may_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    output = place(tmp_path)
    output.parent.chmod(0o500)
    async with running(service_at(tmp_path)) as service:
        with pytest.raises(OutputUnusable, match="may not be written"):
            await service.urls.start("http://127.0.0.1:9/f", RIGHT, str(output))
    output.parent.chmod(0o700)


async def test_what_is_put_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    output, bus = place(tmp_path), Bus()
    with WebFiles(FILE, hold_after=400_000) as web:
        async with running(service_at(tmp_path, bus=bus)) as service:
            moving = asyncio.create_task(held_back(bus))
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            await moving
            output.write_bytes(b"mine")
            web.go.set()
            job = await service.wait(job.id)
            assert (job.state, failed_by(job)) == (JobState.FAILED, "download.bad_output")
            assert output.read_bytes() == b"mine"
            with pytest.raises(OutputUnusable):
                await service.urls.start(web.url(), RIGHT, str(output))
            output.unlink()
            sent_bytes = web.sent_bytes
            await service.resume(job.id)
            job = await service.wait(job.id)
            assert (job.state, job.bytes_refetched) == (JobState.DONE, 0)
            assert web.sent_bytes - sent_bytes <= 1, "it only asks whether the file is still there"
    assert output.read_bytes() == FILE


async def test_a_wrong_digest_never_becomes_the_output(tmp_path: Path) -> None:
    output = place(tmp_path)
    wrong = sha256(b"another").hexdigest()
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url(), wrong, str(output))
            job = await service.wait(job.id)
            assert (job.state, failed_by(job)) == (JobState.FAILED, "download.digest_mismatch")
            assert job.error is not None
            assert "URL" in job.error.hint
            assert 2 * SIZE <= web.sent_bytes < 2.1 * SIZE, "each chunk was doubted once"
            assert not output.exists()
            assert len(beside(output)) == 1
            await service.cancel(job.id)
            assert beside(output) == []


async def test_killed_after_the_rename_it_finds_its_file(tmp_path: Path) -> None:
    output, bus = place(tmp_path), Bus()
    with WebFiles(FILE, hold_after=600_000) as web:
        async with running(service_at(tmp_path, bus=bus)) as service:
            moving = asyncio.create_task(held_back(bus))
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            await moving
            await service.pause(job.id)
            output.write_bytes(FILE)
            sent_bytes = web.sent_bytes
            await service.resume(job.id)
            assert (await service.wait(job.id)).state is JobState.DONE
            assert web.sent_bytes == sent_bytes
    assert beside(output) == []


async def test_a_folder_that_has_gone_is_waited_for(tmp_path: Path) -> None:
    output, bus = place(tmp_path), Bus()
    away = tmp_path / "away"
    with WebFiles(FILE, hold_after=600_000) as web:
        async with running(service_at(tmp_path, bus=bus)) as service:
            moving = asyncio.create_task(held_back(bus))
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            await moving
            missing = asyncio.create_task(until(bus, shows("download.volume_missing")))
            output.parent.rename(away)
            web.go.set()
            assert str(output.parent) in str((await missing).error)
            assert not output.parent.exists()
            away.rename(output.parent)
            done = await service.wait(job.id)
            assert (done.state, done.bytes_refetched) == (JobState.DONE, 0)
    assert output.read_bytes() == FILE


async def test_a_link_in_the_partial_files_place_is_not_followed(tmp_path: Path) -> None:
    output, victim = place(tmp_path), tmp_path / "victim"
    victim.write_bytes(b"theirs")
    output.with_name(f".voice.bin.{RIGHT[:8]}.moshid-part").symlink_to(victim)
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url(), RIGHT, str(output))
            assert failed_by(await service.wait(job.id)) == "download.error"
    assert victim.read_bytes() == b"theirs"
    assert not output.exists()


@pytest.mark.parametrize(
    ("path", "kind"), [("/none", "download.not_found"), ("/refused", "download.unauthorized")]
)
async def test_real_answers_end_the_job(tmp_path: Path, path: str, kind: str) -> None:
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(web.url(path), RIGHT, str(place(tmp_path)))
            job = await service.wait(job.id)
            assert (job.state, failed_by(job)) == (JobState.FAILED, kind)
    assert list((tmp_path / "out").iterdir()) == []


async def test_a_portal_and_a_dead_line_are_waited_for(tmp_path: Path) -> None:
    output, bus = place(tmp_path), Bus()
    with WebFiles(FILE) as web:
        async with running(service_at(tmp_path, bus=bus)) as service:
            trouble = asyncio.create_task(until(bus, shows("download.network")))
            job, _ = await service.urls.start(web.url("/portal.bin"), RIGHT, str(output))
            shown = (await trouble).error
            assert shown is not None
            assert "web page" in shown.message
            await service.cancel(job.id)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with running(service_at(tmp_path, bus=bus)) as service:
        trouble = asyncio.create_task(until(bus, shows("download.network")))
        url = f"http://127.0.0.1:{port}/file.bin"
        job, _ = await service.urls.start(url, RIGHT, str(output))
        shown = (await trouble).error
        assert shown is not None
        assert shown.retryable
        with WebFiles(FILE, port=port):
            assert (await service.wait(job.id)).state is JobState.DONE
    assert output.read_bytes() == FILE


async def test_two_homes_write_one_output_in_turn(tmp_path: Path) -> None:
    output, buses = place(tmp_path), [Bus(), Bus()]
    with WebFiles(FILE, hold_after=400_000) as web:
        async with (
            running(service_at(tmp_path, "a", buses[0])) as first,
            running(service_at(tmp_path, "b", buses[1])) as second,
        ):
            moving = asyncio.create_task(held_back(buses[0]))
            locked = asyncio.create_task(until(buses[1], shows("download.locked")))
            job_a, _ = await first.urls.start(web.url(), RIGHT, str(output))
            await moving
            job_b, _ = await second.urls.start(web.url(), RIGHT, str(output))
            await locked
            web.go.set()
            done_a, done_b = await asyncio.gather(first.wait(job_a.id), second.wait(job_b.id))
            assert done_a.state is done_b.state is JobState.DONE
            assert (done_a.bytes_fetched, done_b.bytes_fetched) == (SIZE, 0)
    assert output.read_bytes() == FILE
    assert beside(output) == []


async def test_offline_uses_the_output_or_says_so(tmp_path: Path) -> None:
    output = place(tmp_path)
    offline = make_service(tmp_path / "home", "http://x", tmp_path / "cache", offline=True)
    async with running(offline) as service:
        job, _ = await service.urls.start("http://127.0.0.1:9/f", RIGHT, str(output))
        assert failed_by(await service.wait(job.id)) == "download.offline"
        output.write_bytes(FILE)
        await service.urls.start("http://127.0.0.1:9/f", RIGHT, str(output))
        assert (await service.wait(job.id)).state is JobState.DONE


async def test_a_no_to_more_connections_is_none_while_others_bring_bytes(tmp_path: Path) -> None:
    """A server may say 403 to whoever has two connections already; these are at work for longer
    than it takes to believe a no."""
    with WebFiles(FILE, most=(2, REFUSALS_MAX + 1)) as web:
        async with running(service_at(tmp_path)) as service:
            job, _ = await service.urls.start(
                web.url(), RIGHT, str(place(tmp_path)), chunk_bytes=SIZE // 3 + 1
            )
            job = await service.wait(job.id)
    assert job.error is None
    assert job.state is JobState.DONE
    assert web.vain > REFUSALS_MAX
    assert (job.bytes_fetched, job.bytes_refetched) == (SIZE, 0)
    assert place(tmp_path).read_bytes() == FILE
