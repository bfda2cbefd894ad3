"""A source that waits to be compared with the server's bytes, which do not come."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.repos import REPO, content

pytestmark = pytest.mark.asyncio

WEIGHTS = content(1_000_001, seed=7)
FILES = {"model.safetensors": WEIGHTS}
HERE_BYTES = 600_000


def leave_a_part(cache: Path) -> None:
    """What huggingface_hub leaves of an unfinished download."""
    blobs = cache / f"models--{REPO.replace('/', '--')}" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(WEIGHTS).hexdigest()}.incomplete").write_bytes(WEIGHTS[:HERE_BYTES])


async def test_a_place_that_is_gone_is_asked_for_anew(tmp_path: Path) -> None:
    leave_a_part(tmp_path / "cache")
    async with (
        OddHub({REPO: OddRepo(Odd(), FILES)}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        hub.dead_places = 2
        job, _ = await service.start(REPO, files=["model.safetensors"])
        job = await service.wait(job.id)
    assert (job.state, job.bytes_rescued) == (JobState.DONE, HERE_BYTES)


async def test_a_server_that_refuses_is_not_waited_for(tmp_path: Path) -> None:
    """It goes on without the source, and says meanwhile why nothing comes."""
    leave_a_part(tmp_path / "cache")
    repo, bus = OddRepo(Odd(refuse_bytes=True), FILES), Bus()
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus)) as s,
    ):
        told = asyncio.create_task(
            until(bus, lambda j: j.state is JobState.VERIFYING and j.error is not None)
        )
        left = asyncio.create_task(until(bus, lambda j: j.state is JobState.DOWNLOADING))
        job, _ = await s.start(REPO, files=["model.safetensors"])
        shown = (await told).error
        assert shown is not None
        assert "403" in shown.message
        await left
        repo.odd = Odd()
        assert (await s.wait(job.id)).state is JobState.DONE
