"""A file that is replaced at its URL in the midst of its download."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from moshid.downloads.edition import ALIKE
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import running, until
from tests.fakes.raw_web import Asked, RawWeb, answer, part
from tests.fakes.repos import content
from tests.fakes.url_jobs import FILE, RIGHT, SIZE, failed_by, place, service_at, shows

pytestmark = pytest.mark.asyncio

PART_BYTES = 40_000
OTHER = content(SIZE, seed=9)


class Replaced:
    """Gives ``file`` in small parts, and after some of them ``then``, which has another ETag.
    ``turns``: it is the same file on two servers that take turns."""

    def __init__(self, then: bytes, *, turns: bool = False) -> None:
        self.then = then
        self.turns = turns
        self.parts = 0

    def __call__(self, asked: Asked) -> bytes:
        if asked.range is None or asked.probes:
            return part(asked)
        self.parts += 1
        new = self.parts % 2 == 0 if self.turns else self.parts > 4
        file, etag = (self.then, '"new"') if new else (FILE, '"old"')
        first, last = asked.range[0], min(asked.range[1], asked.range[0] + PART_BYTES - 1)
        told = {"Content-Range": f"bytes {first}-{last}/{SIZE}", "ETag": etag}
        return answer(206, told, file[first : last + 1])


async def test_it_is_told_while_bytes_arrive_and_in_the_end(tmp_path: Path) -> None:
    bus, replaced = Bus(), Replaced(OTHER)
    async with RawWeb(replaced) as web, running(service_at(tmp_path, bus=bus)) as service:
        telling = asyncio.create_task(until(bus, shows("download.digest_mismatch")))
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        told = await telling
        assert told.state is JobState.DOWNLOADING
        assert told.bytes_done < SIZE
        assert told.error is not None
        assert 'ETag "old" at first, ETag "new" now' in told.error.message
        assert "start anew" in told.error.hint
        job = await service.wait(job.id)
    assert (job.state, failed_by(job)) == (JobState.FAILED, "download.digest_mismatch")
    assert job.error is not None
    assert "another file there" in job.error.message
    assert not place(tmp_path).exists()


@pytest.mark.parametrize("turns", [False, True])
async def test_other_words_for_the_same_bytes_end_no_job(tmp_path: Path, *, turns: bool) -> None:
    replaced = Replaced(FILE, turns=turns)
    async with RawWeb(replaced) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        job = await service.wait(job.id)
    assert (job.state, job.error) == (JobState.DONE, None)
    assert place(tmp_path).read_bytes() == FILE
    assert replaced.parts > 2 * ALIKE
