"""Names that the file system of the cache cannot hold end the job before anything is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from tests.fakes.downloads import make_service, running
from tests.fakes.odd_hubs import COMMIT, Odd, OddHub, OddRepo
from tests.fakes.repos import REPO

pytestmark = pytest.mark.asyncio

NAME_BYTES_MAX = 255


async def fetch(tmp_path: Path, files: dict[str, bytes], revision: str = "main") -> Job:
    """The job for these files, over."""
    repo = OddRepo(Odd(), {"config.json": b"{}"} | files, revisions=("main", revision))
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO, revision=revision, files=list(files))
        return await service.wait(job.id)


@pytest.mark.parametrize(
    "name", ["x" * 256, "é" * 128, f"sub/{'y' * 300}/z"], ids=["file", "bytes", "folder"]
)
async def test_a_name_that_is_too_long_is_told_before_anything_is_fetched(
    tmp_path: Path, name: str
) -> None:
    job = await fetch(tmp_path, {"model.safetensors": b"abc" * 100_000, name: b"a" * 100_000})
    assert (job.state, job.bytes_fetched) == (JobState.FAILED, 0)
    assert job.error is not None
    assert "a name is too long" in job.error.message
    assert "--file" in job.error.hint


async def test_a_branch_whose_name_is_too_long_is_told_as_early(tmp_path: Path) -> None:
    job = await fetch(tmp_path, {"a.txt": b"a" * 100_000}, revision="r" * 256)
    assert (job.state, job.bytes_fetched) == (JobState.FAILED, 0)
    assert job.error is not None
    assert "a name is too long" in job.error.message
    assert f"--revision {COMMIT}" in job.error.hint


async def test_the_longest_name_arrives(tmp_path: Path) -> None:
    name = "x" * NAME_BYTES_MAX
    job = await fetch(tmp_path, {name: b"abc"}, revision="r" * NAME_BYTES_MAX)
    assert job.state is JobState.DONE
