"""A cache whose snapshots hold plain files: a copy that resolved the links, or what huggingface_hub
makes where there are none. And what can be said of a cache that no job knows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from moshid.errors import DownloadOffline, NoSuchJob
from tests.fakes.downloads import QUICK, make_service, running
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads_repair import flip_byte

pytestmark = pytest.mark.asyncio

WEIGHTS, TWIN = "model.safetensors", "twin.safetensors"
CHUNK = QUICK["auto"].chunk_bytes
SIZE = 8 * CHUNK - 5


class Place:
    """A Hub's repository, and a cache of plain files of it."""

    def __init__(self, root: Path) -> None:
        self.root, self.cache = root, root / "cache"
        self.folder = make_repo(root / "hub", SIZE)
        self.homes = 0

    async def fill(self) -> dict[str, Path]:
        """Download all, then put each file in the place of its link; path → file."""
        await self.fetch()
        (snapshot,) = self.cache.glob("models--*/snapshots/*")
        links = [f for f in snapshot.rglob("*") if f.is_symlink()]
        for link in links:
            content = link.read_bytes()
            link.unlink()
            link.write_bytes(content)
        shutil.rmtree(snapshot.parent.parent / "blobs")
        return {f.relative_to(snapshot).as_posix(): f for f in links}

    async def fetch(self) -> Job:
        """Have a home that knows nothing download all."""
        self.homes += 1
        home = self.root / f"home{self.homes}"
        async with (
            DemoHub(self.root / "hub") as hub,
            running(make_service(home, hub.endpoint, self.cache)) as service,
        ):
            job, _ = await service.start(REPO)
            job = await service.wait(job.id)
            assert job.state is JobState.DONE
            assert (await service.verify(REPO)).ok
            found = service.on_disk(REPO)
        for path, file in found.items():
            assert file.read_bytes() == (self.folder / path).read_bytes()
        return job


async def test_plain_files_are_used_as_they_are_and_stay(tmp_path: Path) -> None:
    place = Place(tmp_path)
    files = await place.fill()
    job = await place.fetch()
    assert (job.bytes_fetched, job.bytes_rescued) == (0, job.bytes_total)
    assert all(f.is_file() and not f.is_symlink() for f in files.values())


async def test_a_plain_file_serves_another_commit_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.fill()
    (place.folder / "config.json").write_text("{}")
    assert (await place.fetch()).bytes_fetched == 2


async def test_a_plain_file_serves_another_name_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    shutil.copyfile(place.folder / WEIGHTS, place.folder / TWIN)
    (place.folder / "config.json").unlink()  # so that all there is makes up the model
    files = await place.fill()
    files[TWIN].unlink()
    assert (await place.fetch()).bytes_fetched == 0
    assert files[TWIN].is_symlink()
    assert not files[WEIGHTS].is_symlink()


async def test_plain_files_that_no_job_knows_are_read_against_the_hubs_digests(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path)
    files = await place.fill()
    files[WEIGHTS].with_name(".DS_Store").write_bytes(b"no file of the repository")
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "fresh", hub.endpoint, place.cache)) as service,
    ):
        report = await service.verify(REPO)
        assert (report.ok, report.state) == (True, None)
        assert {f.path for f in report.files} == set(files)
        flip_byte(files[WEIGHTS], 5)
        report = await service.verify(REPO)
        assert [f.path for f in report.files if not f.ok] == [WEIGHTS]
        assert (await service.verify(REPO, repair=True)).ok
    async with running(
        make_service(tmp_path / "offline", hub.endpoint, place.cache, offline=True)
    ) as service:
        with pytest.raises(DownloadOffline, match="digest"):
            await service.verify(REPO)


async def test_a_link_that_leads_nowhere_is_missing_though_no_job_knows_it(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.fetch()
    (entry,) = place.cache.glob(f"models--*/snapshots/*/{WEIGHTS}")
    entry.resolve().unlink()
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "fresh", hub.endpoint, place.cache)) as service,
    ):
        report = await service.verify(REPO)
        assert [f.path for f in report.files if f.missing] == [WEIGHTS]
        assert not report.ok
        assert (await service.verify(REPO, repair=True)).ok


async def test_a_snapshot_of_other_files_only_is_no_model(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for file in (await place.fill()).values():
        file.rename(file.with_name(f"my-{file.name}"))
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "fresh", hub.endpoint, place.cache)) as service,
    ):
        with pytest.raises(NoSuchJob):
            await service.verify(REPO)
