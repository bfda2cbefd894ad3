"""Redirects: what goes over the line, and to whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid.downloads.job import Job
from moshid.downloads.once import SPENT_MAX
from moshid.downloads.states import JobState
from tests.fakes.downloads import running
from tests.fakes.raw_web import Asked, RawWeb, answer, part
from tests.fakes.url_jobs import FILE, RIGHT, place, service_at

pytestmark = pytest.mark.asyncio

SIGNED = (
    "/a%27b%2Fc%7Ed%28/e+f.bin?sig=a%2Fb%2Bc%3D&rcd=UTF-8%27%27m%20o%3B&x=%7E%21%2C%3A%40&p=_~-"
)


async def fetched(tmp_path: Path, url: str) -> Job:
    """The job of a URL, which brought the right file."""
    async with running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(url, RIGHT, str(place(tmp_path)))
        job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert place(tmp_path).read_bytes() == FILE
    return job


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (SIGNED, SIGNED),
        ("x/../" + SIGNED[1:], SIGNED),
        ("/with space/☃.bin?q=ä", "/with%20space/%E2%98%83.bin?q=%C3%A4"),
        ("?sig=%7e", "/file.bin?sig=%7e"),
    ],
)
async def test_a_location_goes_over_the_line_byte_for_byte(
    tmp_path: Path, location: str, target: str
) -> None:
    def strict(asked: Asked) -> bytes:
        if asked.target == "/file.bin":
            return answer(302, {"Location": location})
        return part(asked) if asked.target == target else answer(403)

    async with RawWeb(strict) as web:
        await fetched(tmp_path, web.url())
    assert {a.target for a in web.seen} == {"/file.bin", target}


async def test_an_address_that_is_good_for_one_request_only_is_asked_for_each_time(
    tmp_path: Path,
) -> None:
    fresh = set[str]()

    def spending(asked: Asked) -> bytes:
        if asked.target == "/file.bin":
            there = f"/there?once={len(web.seen)}"
            fresh.add(there)
            return answer(302, {"Location": there})
        if asked.target not in fresh:
            return answer(403)
        fresh.remove(asked.target)
        return part(asked)

    async with RawWeb(spending) as web:
        job = await fetched(tmp_path, web.url())
    assert job.bytes_fetched == len(FILE)
    questions = [asked.target for asked in web.seen].count("/file.bin")
    assert questions > SPENT_MAX, "each was spent by the question for it, until that was seen"


async def test_a_cookie_is_shown_to_who_set_it_only(tmp_path: Path) -> None:
    """A wall that wants its own cookie is passed, and the place behind it hears nothing."""
    async with RawWeb(part, "127.0.0.2") as other:

        def wall(asked: Asked) -> bytes:
            if asked.headers.get("cookie") != 'seen="a b"; k=1':
                many = "HTTP/1.1 302 X\r\nLocation: /file.bin\r\nContent-Length: 0\r\n"
                return f'{many}Set-Cookie: seen="a b"; Path=/\r\nSet-Cookie: k=1\r\n\r\n'.encode()
            return answer(302, {"Location": other.url("/there"), "Set-Cookie": "session=S"})

        async with RawWeb(wall) as web:
            await fetched(tmp_path, web.url())
    assert other.seen
    assert not any("cookie" in a.headers for a in other.seen)
    assert "cookie" not in web.seen[0].headers
