"""URL jobs and servers that answer legally, but otherwise than most: the file arrives anyway."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from moshid.downloads.states import JobState
from tests.fakes.downloads import QUICK, make_service, running
from tests.fakes.raw_web import Asked, RawWeb, answer, part
from tests.fakes.url_jobs import CHUNK_BYTES, FILE, RIGHT, SIZE, failed_by, place, service_at

pytestmark = pytest.mark.asyncio

CAP_BYTES = 50_000
BLOCK_BYTES = 61_440


def capped(asked: Asked) -> bytes:
    """Never more than so much at once."""
    first, last = asked.range or (0, 0)
    last = min(last, first + CAP_BYTES - 1, SIZE - 1)
    told = {"Content-Range": f"bytes {first}-{last}/{SIZE}"}
    return answer(206, told, FILE[first : last + 1])


def ranged(asked: Asked, total: object = SIZE, unit: str = "bytes") -> bytes:
    """The range, told otherwise; all of it where none was asked for."""
    first, last = asked.range or (0, SIZE - 1)
    return part(asked, {"Content-Range": f"{unit} {first}-{last}/{total}"})


def cut(asked: Asked) -> bytes:
    """Right headers, and a connection that ends after the first bytes of the body."""
    whole = part(asked, {"Connection": "close"})
    return whole[: 300 + CAP_BYTES]


def in_blocks(asked: Asked) -> bytes:
    """The blocks that the range lies in, whole."""
    first, last = asked.range or (0, SIZE - 1)
    first, last = (
        first - first % BLOCK_BYTES,
        min(SIZE, last - last % BLOCK_BYTES + BLOCK_BYTES) - 1,
    )
    told = {"Content-Range": f"bytes {first}-{last}/{SIZE}"}
    return answer(206, told, FILE[first : last + 1])


def misplaced(asked: Asked) -> bytes:
    """The first bytes, and honest about it, whatever range is asked for."""
    if asked.range is None:
        return part(asked)
    return answer(206, {"Content-Range": f"bytes 0-0/{SIZE}"}, FILE[:1])


def by_parts(asked: Asked) -> bytes:
    """One range as if it were many: multipart, its place told inside."""
    if asked.range is None or asked.probes:
        return part(asked)
    first, last = asked.range[0], min(asked.range[1], SIZE - 1)
    head = f"--x\r\nContent-Range: bytes {first}-{last}/{SIZE}\r\n\r\n".encode()
    body = head + FILE[first : last + 1] + b"\r\n--x--\r\n"
    return answer(206, {"Content-Type": "multipart/byteranges; boundary=x"}, body)


def unmarked(asked: Asked) -> bytes:
    """The range, and not a word that it is one."""
    first, last = asked.range or (0, SIZE - 1)
    return answer(200, body=FILE[first : last + 1])


def twice(asked: Asked, again: bytes) -> bytes:
    """The length as it should be, and once more."""
    head, _, body = part(asked).partition(b"\r\n\r\n")
    return head + b"\r\n" + again.replace(b"N", b"%d" % len(body)) + b"\r\n\r\n" + body


def chunked_and_counted(asked: Asked) -> bytes:
    """Chunked, with a length beside it."""
    head, _, body = part(asked, {"Transfer-Encoding": "chunked"}).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def misnamed(asked: Asked) -> bytes:
    """A range, called 200."""
    return part(asked).replace(b" 206 ", b" 200 ", 1)


def miscounted(asked: Asked) -> bytes:
    """Ranges whose length is another than their place says."""
    told = part(asked)
    if asked.range is None or asked.probes:
        return told
    head, _, body = told.partition(b"\r\n\r\n")
    length = b"Content-Length: %d"
    return head.replace(length % len(body), length % 10) + b"\r\n\r\n" + body[:10]


def transformed(_asked: Asked) -> bytes:
    """203: the whole file, which somebody on the way might have changed, and has not."""
    return answer(203, body=FILE)


def choosing(asked: Asked) -> bytes:
    """300, with the choice that the server would make."""
    return part(asked) if asked.target == "/chosen" else answer(300, {"Location": "/chosen"})


def rangeless(asked: Asked) -> bytes:
    """416 to whoever asks for a range."""
    return answer(416) if asked.range else part(asked)


def refusing_ranges(status: int) -> Callable[[Asked], bytes]:
    """``status`` to whoever asks for a range."""
    return lambda asked: answer(status) if asked.range else part(asked)


def refusing_the_first_byte(asked: Asked) -> bytes:
    """A guard against whoever looks around."""
    return answer(403) if asked.probes else part(asked)


def whole(_asked: Asked) -> bytes:
    """Always all of it, called the range that it is."""
    return answer(206, {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}, FILE)


@pytest.mark.parametrize(
    "handler",
    [
        capped,
        lambda a: ranged(a, "*"),
        lambda a: ranged(a, SIZE if a.probes else "*"),
        lambda a: ranged(a, unit="Bytes"),
        lambda a: ranged(a, unit="bytes:"),
        lambda a: ranged(a, unit=""),
        lambda a: part(a, {"Content-Type": "text/html; charset=UTF-8"}),
        lambda a: part(a, {"Content-Encoding": "x-gzip"}),
        lambda a: part(a, {"Content-Encoding": "aws-chunked"}),
        rangeless,
        *(refusing_ranges(status) for status in (400, 403, 405, 501)),
        refusing_the_first_byte,
        whole,
        in_blocks,
        choosing,
        misplaced,
        by_parts,
        unmarked,
        lambda a: twice(a, b"content-length: N"),
        lambda a: twice(a, b"Transfer-Encoding: identity"),
        chunked_and_counted,
        misnamed,
        miscounted,
        transformed,
    ],
    ids=[
        "capped",
        "no total",
        "no total later",
        "unit",
        "unit with a colon",
        "no unit",
        "html",
        "x-gzip",
        "aws",
        "no ranges",
        *("400 to ranges", "403 to ranges", "405 to ranges", "501 to ranges"),
        "403 to the first byte",
        "whole",
        "in blocks",
        "300",
        "misplaced",
        "multipart",
        "200 for a range",
        "length twice",
        "identity",
        "chunked with a length",
        "206 called 200",
        "other length",
        "203",
    ],
)
async def test_the_file_arrives(tmp_path: Path, handler: Callable[[Asked], bytes]) -> None:
    async with RawWeb(handler) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert place(tmp_path).read_bytes() == FILE
    wasted_max_bytes = BLOCK_BYTES * len(web.seen) if handler is in_blocks else 0
    assert job.bytes_refetched <= wasted_max_bytes
    if handler in (capped, in_blocks):
        assert job.retries == 0, "a part of what was asked for, or more, is no setback"
    if handler is refusing_the_first_byte:
        assert sum(a.range is not None for a in web.seen) > 2, "other parts are given"


@pytest.mark.parametrize("refusals", [1, 2])
async def test_parts_that_are_refused_at_first_are_asked_for_again(
    tmp_path: Path, refusals: int
) -> None:
    left = refusals

    def slipping(asked: Asked) -> bytes:
        nonlocal left
        if asked.range and left:
            left -= 1
            return answer(400)
        return part(asked)

    async with RawWeb(slipping) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        assert (await service.wait(job.id)).state is JobState.DONE
    assert sum(a.range is None for a in web.seen) == refusals, "only the questions are without one"


async def test_ranges_that_are_refused_in_mid_job_are_asked_for_again(
    tmp_path: Path,
) -> None:
    """As by a server that says 403 to one connection too many."""
    given = 0
    refusing = [True, True, False, True, False, True]  # a part, then whatever is asked for

    def crowded(asked: Asked) -> bytes:
        nonlocal given
        if given < 3 or not refusing:
            given += asked.range is not None
            return part(asked)
        return answer(403) if refusing.pop(0) else part(asked)

    async with RawWeb(crowded) as web, running(service_at(tmp_path)) as service:
        output = str(place(tmp_path))
        job, _ = await service.urls.start(web.url(), RIGHT, output, workers=1)
        assert (await service.wait(job.id)).state is JobState.DONE
    assert refusing == []
    assert [a.range for a in web.seen].count(None) == 2, "none but those of the questions"


async def test_what_came_before_a_body_was_cut_is_kept(tmp_path: Path) -> None:
    sent_bytes = 0

    def counted(asked: Asked) -> bytes:
        nonlocal sent_bytes
        if asked.probes:
            return part(asked)
        told = cut(asked)
        sent_bytes += len(told.partition(b"\r\n\r\n")[2])
        return told

    async with RawWeb(counted) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        assert (await service.wait(job.id)).state is JobState.DONE
    assert sent_bytes == SIZE, "each byte was sent once"


FINAL = {
    "204": (answer(204), "download.error"),
    "205": (answer(205), "download.error"),
    "300": (answer(300), "download.error"),
    "304": (answer(304), "download.error"),
    "400": (answer(400), "download.error"),
    "402": (answer(402), "download.error"),
    "405": (answer(405), "download.error"),
    "406": (answer(406), "download.error"),
    "414": (answer(414), "download.error"),
    "431": (answer(431), "download.error"),
    "410": (answer(410), "download.not_found"),
    "451": (answer(451), "download.error"),
    "501": (answer(501), "download.error"),
    "505": (answer(505), "download.error"),
    "circle": (answer(302, {"Location": "/circle"}), "download.error"),
    "ftp": (answer(302, {"Location": "ftp://127.0.0.1/x"}), "download.error"),
    "nowhere": (answer(302), "download.error"),
    "no-place": (answer(302, {"Location": "http://[bad"}), "download.error"),
}


async def test_a_no_is_believed_after_a_few(tmp_path: Path) -> None:
    """Each by its kind; one that is given a few times only does no harm."""
    place(tmp_path)
    asked = Counter[str]()

    def refusing(a: Asked) -> bytes:
        name = a.target[1:]
        asked[name] += 1
        if name in FINAL:
            return FINAL[name][0]
        return answer(400) if asked[name] <= 2 else part(a)

    async with RawWeb(refusing) as web, running(service_at(tmp_path)) as service:
        jobs = {}
        for name in [*FINAL, "well"]:
            output = str(tmp_path / "out" / name)
            jobs[name] = (await service.urls.start(web.url(f"/{name}"), RIGHT, output))[0]
        await asyncio.gather(*(service.wait(j.id) for j in jobs.values()))
        ended = {name: service.get(j.id) for name, j in jobs.items()}
    assert ended.pop("well").state is JobState.DONE
    for name, job in ended.items():
        assert (job.state, failed_by(job)) == (JobState.FAILED, FINAL[name][1]), name
        assert name == "circle" or asked[name] in (4, 8), "no hammering"


@pytest.mark.parametrize("status", [204, 302, 304])
async def test_a_place_that_holds_nothing_for_a_while_is_asked_again(
    tmp_path: Path, status: int
) -> None:
    """Its size was told by it: it has the file, and something on the way has slipped."""
    refusals = 6

    def empty(asked: Asked) -> bytes:
        nonlocal refusals
        if asked.probes or refusals == 0:
            return part(asked)
        refusals -= 1
        return answer(status)

    async with RawWeb(empty) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        job = await service.wait(job.id)
    assert job.state is JobState.DONE
    assert refusals == 0
    assert len(web.seen) < 100, "no hammering"


async def test_who_was_refused_a_connection_takes_the_place_of_who_is_done(tmp_path: Path) -> None:
    """Though the wait it was to have is long."""
    once = {CHUNK_BYTES, 2 * CHUNK_BYTES}

    def crowded(asked: Asked) -> bytes:
        start = asked.range[0] if asked.range else 0
        if start in once:
            once.remove(start)
            return answer(503)
        return part(asked)

    slow = {n: replace(p, retry_first_s=120.0, retry_max_s=120.0) for n, p in QUICK.items()}
    service = make_service(tmp_path / "home", "http://127.0.0.1:9", tmp_path / "c", profiles=slow)
    async with RawWeb(crowded) as web, running(service), asyncio.timeout(20):
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        assert (await service.wait(job.id)).state is JobState.DONE
    assert place(tmp_path).read_bytes() == FILE
