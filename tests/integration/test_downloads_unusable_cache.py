"""A cache that cannot be written, or is none: the job says so; one that need not be, is used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from tests.fakes.downloads import make_service, running
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import WEIGHTS, assert_in_cache

SIZE = 300_000


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of its own, to be made read-only, which root has to obey, too."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount; folders without permission are tested then")
    folder = tmp_path / "volume"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(volume: Path, how: str) -> None:
    """From now on it can (rw) or cannot (ro) be written."""
    subprocess.run(["mount", "-o", f"remount,{how}", volume], check=True)


async def bring(home: Path, endpoint: str, cache: Path) -> Job:
    """Run the job to its end."""
    async with running(make_service(home, endpoint, cache)) as service:
        job, _ = await service.start(REPO)
        return await service.wait(job.id)


def assert_tells(job: Job, why: str) -> None:
    """The job failed, and says what cannot be used, why, and what to look at."""
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.kind == "download.error"
    assert "the Hugging Face cache cannot be used" in job.error.message
    assert why in job.error.message
    assert "HF_HUB_CACHE" in job.error.hint


@pytest.mark.asyncio
async def test_a_read_only_volume_is_named_and_goes_on_when_it_can(
    tmp_path: Path, volume: Path
) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), volume / "cache"
    remount(volume, "ro")
    async with DemoHub(tmp_path / "hub") as hub:
        assert_tells(await bring(tmp_path / "home", hub.endpoint, cache), "Read-only file system")
        remount(volume, "rw")
        assert (await bring(tmp_path / "home", hub.endpoint, cache)).state is JobState.DONE
    assert_in_cache(folder, cache, WEIGHTS)


@pytest.mark.asyncio
async def test_what_a_read_only_cache_holds_is_used(tmp_path: Path, volume: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), volume / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        await bring(tmp_path / "home", hub.endpoint, cache)
        remount(volume, "ro")
        done = await bring(tmp_path / "another home", hub.endpoint, cache)
    assert (done.state, done.bytes_fetched, done.error) == (JobState.DONE, 0, None)
    assert_in_cache(folder, cache, WEIGHTS)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("cache", "why"),
    [("file", "Not a directory"), ("file/cache", "Not a directory"), ("dangling", "File exists")],
)
async def test_a_cache_that_is_no_folder_is_named(tmp_path: Path, cache: str, why: str) -> None:
    make_repo(tmp_path / "hub", SIZE)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    async with DemoHub(tmp_path / "hub") as hub:
        assert_tells(await bring(tmp_path / "home", hub.endpoint, tmp_path / cache), why)
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.asyncio
async def test_a_missing_cache_is_made(tmp_path: Path) -> None:
    folder = make_repo(tmp_path / "hub", SIZE)
    cache = tmp_path / "not" / "there" / "yet"
    async with DemoHub(tmp_path / "hub") as hub:
        assert (await bring(tmp_path / "home", hub.endpoint, cache)).state is JobState.DONE
    assert_in_cache(folder, cache, WEIGHTS)


@pytest.mark.asyncio
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the read-only volume")
async def test_a_cache_without_permission_is_named(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", SIZE)
    (tmp_path / "theirs").mkdir(mode=0o555)
    async with DemoHub(tmp_path / "hub") as hub:
        job = await bring(tmp_path / "home", hub.endpoint, tmp_path / "theirs" / "cache")
        assert_tells(job, "Permission denied")
