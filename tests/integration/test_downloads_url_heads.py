"""URL jobs and servers whose heads or bodies strict readers refuse: other clients take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moshid.downloads.states import JobState
from tests.fakes.downloads import running
from tests.fakes.raw_web import Asked, RawWeb, answer, part
from tests.fakes.url_jobs import FILE, RIGHT, SIZE, place, service_at

pytestmark = pytest.mark.asyncio


def zeros(asked: Asked) -> bytes:
    """Positions and length with zeros before them, and a space behind."""
    first, last = asked.range or (0, SIZE - 1)
    last = min(last, SIZE - 1)
    told = {"Content-Range": f"bytes 00{first}-00{last}/0{SIZE}"}
    return part(asked, told | {"Content-Length": f"00{last - first + 1} "})


def so_called(encoding: str) -> Callable[[Asked], bytes]:
    """No ranges, and a word for an encoding that is none."""
    return lambda _asked: answer(200, {"Content-Encoding": encoding}, FILE)


def with_lines(lines: bytes) -> Callable[[Asked], bytes]:
    """The range, and these lines in its head."""
    return lambda asked: part(asked).replace(b"\r\n", b"\r\n" + lines + b"\r\n", 1)


@pytest.mark.parametrize(
    "handler",
    [
        zeros,
        so_called("none"),
        so_called("Binary"),
        with_lines(b"no header"),
        with_lines(b"Server : x"),
        lambda a: part(a).replace(b"HTTP/1.1", b"HTTP/1.2", 1),
        lambda a: b"HTTP/1.0 100 Continue\r\n\r\n" + part(a),
    ],
    ids=["zeros", "none", "binary", "no header", "spaced", "1.2", "100 in 1.0"],
)
async def test_the_file_arrives(tmp_path: Path, handler: Callable[[Asked], bytes]) -> None:
    async with RawWeb(handler) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        job = await service.wait(job.id)
    assert (job.state, job.bytes_refetched) == (JobState.DONE, 0)
    assert place(tmp_path).read_bytes() == FILE


async def test_a_chunk_that_is_none_is_the_lines_fault(tmp_path: Path) -> None:
    """It comes with the head, so that there is nothing to read before it."""
    broken = 3

    def framed(asked: Asked) -> bytes:
        nonlocal broken
        if asked.probes or broken == 0:
            return part(asked)
        broken -= 1
        head, _, body = part(asked, {"Transfer-Encoding": "chunked"}).partition(b"\r\n\r\n")
        return head + b"\r\n\r\nno size\r\n" + body

    async with RawWeb(framed) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        job = await service.wait(job.id)
    assert (job.state, broken) == (JobState.DONE, 0)
    assert place(tmp_path).read_bytes() == FILE
