"""The engine against nginx, a server that was not written for it: ranges, limits, refusals."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from tests.fakes.downloads import make_service, running
from tests.fakes.nginx import Nginx, nginx
from tests.fakes.repos import content

pytestmark = pytest.mark.asyncio

SIZE = 6_000_001
CHUNKS = 23
"""Of 256 KiB, the last one shorter."""


def serve(tmp_path: Path) -> Path:
    """The folder with the file."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "f.bin").write_bytes(content(SIZE))
    return folder


async def bring(tmp_path: Path, server: Nginx, profile: str = "parallel") -> Job:
    """Fetch the file, by the real profile's number of connections; it is right."""
    right, output = (tmp_path / "files" / "f.bin").read_bytes(), tmp_path / "out.bin"
    service = make_service(tmp_path / "home", "http://127.0.0.1:9", tmp_path / "cache")
    async with running(service):
        url, digest = f"{server.endpoint}/f.bin", sha256(right).hexdigest()
        job, _ = await service.urls.start(url, digest, str(output), profile=profile)
        done = await service.wait(job.id)
    assert (done.state, done.chunks_corrupt) == (JobState.DONE, 0)
    assert output.read_bytes() == right
    return done


async def test_ranges_come_over_connections_that_are_kept(tmp_path: Path) -> None:
    async with nginx(serve(tmp_path), tmp_path / "nginx") as server:
        done = await bring(tmp_path, server, "robust")
    answers = server.answers()
    assert {a.status for a in answers} == {206}
    assert max(a.nth for a in answers) > 1, "a connection serves many ranges"
    assert len({a.connection for a in answers}) <= 6, "four, and those that asked for the size"
    assert (done.bytes_fetched, done.bytes_refetched, done.retries) == (SIZE, 0, 0)


async def test_a_limit_on_each_connection_is_met_by_many(tmp_path: Path) -> None:
    slow = "limit_rate 200k;"
    async with nginx(serve(tmp_path), tmp_path / "nginx", server=slow) as server:
        done = await bring(tmp_path, server)
    answers = [a for a in server.answers() if a.sent_bytes > 1]
    assert {a.status for a in answers} == {206}
    assert len({a.connection for a in answers}) >= CHUNKS - 3
    assert (done.bytes_fetched, done.bytes_refetched) == (SIZE, 0)


async def test_a_limit_on_their_number_is_lived_with(tmp_path: Path) -> None:
    async with nginx(
        serve(tmp_path),
        tmp_path / "nginx",
        http="limit_conn_zone $binary_remote_addr zone=one:1m;",
        server="limit_conn one 4; limit_rate 200k;",
    ) as server:
        done = await bring(tmp_path, server)
    statuses = [a.status for a in server.answers()]
    assert set(statuses) == {206, 503}
    assert done.retries > 0
    assert (done.bytes_fetched, done.bytes_refetched) == (SIZE, 0)


async def test_a_server_that_gives_no_ranges_gives_the_whole(tmp_path: Path) -> None:
    async with nginx(serve(tmp_path), tmp_path / "nginx", server="max_ranges 0;") as server:
        done = await bring(tmp_path, server, "robust")
    assert {a.status for a in server.answers()} == {200}
    assert done.bytes_refetched == 0


async def test_what_nginx_would_compress_comes_as_it_is(tmp_path: Path) -> None:
    packed = "gzip on; gzip_min_length 0; gzip_types *; gzip_proxied any;"
    async with nginx(serve(tmp_path), tmp_path / "nginx", server=packed) as server:
        done = await bring(tmp_path, server, "auto")
    assert {a.status for a in server.answers()} == {206}
    assert done.bytes_refetched == 0
