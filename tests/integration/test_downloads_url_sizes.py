"""A wrong size, told once or for a while, does not stay with a job."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from moshid.downloads.states import JobState
from moshid.errors import DigestMismatch
from tests.fakes.downloads import running
from tests.fakes.raw_web import Asked, RawWeb, answer, part
from tests.fakes.url_jobs import FILE, RIGHT, SIZE, failed_by, place, service_at

pytestmark = pytest.mark.asyncio

OLDER = FILE[: SIZE // 2]


@pytest.mark.parametrize("cancel", [False, True], ids=["resume", "cancel and start"])
async def test_who_tries_again_has_the_size_asked_for_anew(tmp_path: Path, cancel: bool) -> None:
    """A server that has another file for a while; the user tries again when it is well."""
    content = OLDER
    output = str(place(tmp_path))
    async with (
        RawWeb(lambda a: part(a, content=content)) as web,
        running(service_at(tmp_path)) as service,
    ):
        job, _ = await service.urls.start(web.url(), RIGHT, output)
        job = await service.wait(job.id)
        assert (job.state, failed_by(job)) == (JobState.FAILED, "download.digest_mismatch")
        content = FILE
        if cancel:
            await service.cancel(job.id)
            await service.urls.start(web.url(), RIGHT, output)
        else:
            await service.resume(job.id)
        job = await service.wait(job.id)
        assert (job.state, job.bytes_total) == (JobState.DONE, SIZE)
    assert place(tmp_path).read_bytes() == FILE


@pytest.mark.parametrize("size", [0, SIZE // 2, SIZE + 5, 2**63, 10**30])
async def test_a_size_that_was_wrong_once_is_asked_for_again(tmp_path: Path, size: int) -> None:
    asked_before = 0

    def once_wrong(asked: Asked) -> bytes:
        nonlocal asked_before
        asked_before += 1
        if asked_before > 1:
            return part(asked)
        told = {"Content-Range": f"bytes 0-0/{size}"}
        return answer(206, told, b"x") if size else answer(200)

    async with RawWeb(once_wrong) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        job = await service.wait(job.id)
        assert (job.state, job.bytes_total, job.error) == (JobState.DONE, SIZE, None)
    assert place(tmp_path).read_bytes() == FILE


async def test_an_empty_file_may_be_what_is_wanted(tmp_path: Path) -> None:
    async with RawWeb(lambda _a: answer(200)) as web, running(service_at(tmp_path)) as service:
        job, _ = await service.urls.start(web.url(), sha256(b"").hexdigest(), str(place(tmp_path)))
        assert (await service.wait(job.id)).state is JobState.DONE


async def test_a_file_that_has_changed_ends_a_repair(tmp_path: Path) -> None:
    """The new size is believed; the digest, which is still the old one, has the last word."""
    content = FILE
    async with (
        RawWeb(lambda a: part(a, content=content)) as web,
        running(service_at(tmp_path)) as service,
    ):
        job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
        await service.wait(job.id)
        content = OLDER
        damaged = bytearray(FILE)
        damaged[5] ^= 1
        place(tmp_path).write_bytes(damaged)
        with pytest.raises(DigestMismatch):
            await service.verify(job.id, repair=True)
        content = FILE
        await service.resume(job.id)
        assert (await service.wait(job.id)).state is JobState.DONE
    assert place(tmp_path).read_bytes() == FILE
