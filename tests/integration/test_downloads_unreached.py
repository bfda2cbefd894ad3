"""Who is not reached is told by what a user can do about it, and asked again all the same."""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http_exceptions import BadHttpMessage

from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from moshid.downloads.unreached import unreached
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.far_hub import certify
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.raw_web import RawWeb, answer, part
from tests.fakes.repos import REPO, content
from tests.fakes.url_jobs import FILE, RIGHT, place, service_at

pytestmark = pytest.mark.asyncio


def says(words: str) -> Callable[[Job], bool]:
    """Whether a job's error says so."""
    return lambda job: job.error is not None and words in job.error.message


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_a_certificate_that_is_not_trusted_is_told_as_that(tmp_path: Path) -> None:
    server = RawWeb(part)
    server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.tls.load_cert_chain(await asyncio.to_thread(certify, tmp_path))
    web_bus, hub_bus, words = Bus(), Bus(), "shows a certificate that is not trusted (self"
    seen = [asyncio.create_task(until(bus, says(words))) for bus in (web_bus, hub_bus)]
    async with server as web, running(service_at(tmp_path, bus=web_bus)) as service:
        hub = f"https://127.0.0.1:{web.port}"
        await service.urls.start(f"{hub}/file.bin", RIGHT, str(place(tmp_path)))
        async with running(make_service(tmp_path / "2", hub, tmp_path, bus=hub_bus)) as other:
            await other.start(REPO)
            told = await asyncio.gather(*seen)
    for job in told:
        assert job.state is JobState.PROBING, "a login page may be in between for a while"
        assert job.error is not None
        assert "REQUESTS_CA_BUNDLE" in job.error.hint


async def test_an_answer_that_is_no_http_is_told_as_that(tmp_path: Path) -> None:
    bus, twice = Bus(), {"content-length": "1", "Content-Length": "2"}
    async with (
        RawWeb(lambda _: answer(200, twice, b"x")) as web,
        running(service_at(tmp_path, bus=bus)) as service,
    ):
        seen = asyncio.create_task(until(bus, says("the server answers what is no proper HTTP")))
        await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        assert "\n" not in str((await seen).error)
        web.handler = part
        job = await service.wait(service.list()[0].id)
    assert job.state is JobState.DONE
    assert place(tmp_path).read_bytes() == FILE


@pytest.mark.parametrize("port", [99_999, 0])
async def test_a_wrong_address_that_a_hub_named_is_not_kept(tmp_path: Path, port: int) -> None:
    """Nobody can be asked there, so that no server will ever say that the link is over."""
    repo = OddRepo(Odd(), {"model.bin": content(100_000)})
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        hub.dead_place, hub.dead_places = f"http://127.0.0.1:{port}/x", 2
        job, _ = await service.start(REPO, files=["model.bin"])
        assert (await service.wait(job.id)).state is JobState.DONE


async def test_names_and_handshakes_are_told_apart() -> None:
    def told(inner: BaseException) -> str:
        outer = OSError("in a pool", OSError(inner))
        return unreached("the Hub", outer).message

    refused = ssl.SSLError(1, "x")
    refused.reason = "WRONG_VERSION_NUMBER"
    info = aiohttp.RequestInfo(*(None, "GET", None, None))  # type: ignore[arg-type]
    bad = aiohttp.ClientResponseError(info, (), status=400, message=BadHttpMessage("A\nB").message)
    assert told(socket.gaierror(-2, "x")) == "the Hub cannot be reached: its name is not found"
    assert told(refused) == "the Hub cannot be reached over TLS (wrong version number)"
    assert told(bad) == "the Hub answers what is no proper HTTP (A)"
    assert told(ConnectionRefusedError()) == "the Hub cannot be reached (OSError)"
    nobody = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed")
    assert told(nobody) == "the Hub cannot be reached (connection refused)"
