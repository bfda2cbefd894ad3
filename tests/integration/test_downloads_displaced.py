"""Somebody deletes or replaces the partial file while it is being written: it is noticed at the
next sync, what has come is kept, and nothing else than what was verified is published."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.disk import Partial
from moshid.downloads.displaced import put_back
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.repos import REPO, content, make_repo
from tests.integration.test_downloads import assert_in_cache

WEIGHTS = "model.safetensors"
SIZE = 12_000_001
MIB = 1 << 20


def delete_locks(cache: Path) -> None:
    """The usual remedy for huggingface_hub's stuck locks."""
    shutil.rmtree(cache / ".locks")


def replace_partial(cache: Path) -> None:
    """Another file of the same size in its place."""
    (partial,) = (cache / ".locks" / "moshid").glob("*.part")
    other = partial.with_name("other")
    other.write_bytes(b"\xee" * SIZE)
    other.replace(partial)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("damage", "keeps"), [(delete_locks, True), (replace_partial, False)], ids=["deleted", "other"]
)
async def test_a_partial_file_that_loses_its_place_is_made_anew(
    tmp_path: Path, damage: Callable[[Path], None], keeps: bool
) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=8e6) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, bus=bus)) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 8 * MIB))
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await moving
        damage(cache)
        job = await service.wait(job.id)
    assert (job.state, job.error) == (JobState.DONE, None)
    assert_in_cache(folder, cache, WEIGHTS)
    if keeps:
        assert job.bytes_fetched < SIZE + 6 * MIB, "what was durable is not fetched again"


@pytest.mark.parametrize("taken", [False, True])
def test_what_an_open_file_holds_is_put_back_unless_another_has_the_place(
    tmp_path: Path, taken: bool
) -> None:
    partial = Partial.open(tmp_path / "x.part", 3 * MIB)
    written = content(MIB, 1)
    partial.write(MIB, [written])
    partial.sync()
    partial.path.unlink()
    assert not partial.is_in_place()
    assert not partial.sync()
    with pytest.raises(FileNotFoundError):
        partial.check_place()
    if taken:
        partial.path.write_bytes(b"theirs")
    assert put_back(partial) is not taken
    found = partial.path.read_bytes()
    assert found == (b"theirs" if taken else bytes(MIB) + written + bytes(MIB))
    assert os.listdir(tmp_path) == ["x.part"]
    partial.close()


@pytest.mark.asyncio
async def test_a_home_that_cannot_be_written_fails_the_job_and_not_the_service(
    tmp_path: Path,
) -> None:
    folder, cache, home = make_repo(tmp_path / "hub", MIB), tmp_path / "cache", tmp_path / "home"
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(home, hub.endpoint, cache)) as service,
    ):
        (home / "tallies").write_text("")
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "MOSHID_HOME" in job.error.hint
        (home / "tallies").unlink()
        await service.resume(job.id)
        assert (await service.wait(job.id)).state is JobState.DONE
    assert_in_cache(folder, cache, WEIGHTS, "config.json")
