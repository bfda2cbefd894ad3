"""What a job is to fetch, and which revisions it stands for, over failures and second thoughts."""

from __future__ import annotations

import asyncio
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from moshid.downloads.states import JobState
from moshid.errors import DownloadNotFound
from tests.fakes.downloads import QUICK, make_service, running
from tests.fakes.odd_hubs import COMMIT, Odd, OddHub, OddRepo
from tests.fakes.repos import REPO, content

pytestmark = pytest.mark.asyncio

CHUNK = QUICK["auto"].chunk_bytes
WEIGHTS = content(3 * CHUNK + 1, seed=7)
FILES = {"config.json": b'{"dim": 256}', "model.safetensors": WEIGHTS, "tokenizer.model": b"abc"}


async def test_a_name_mistyped_is_its_callers_trouble_alone(tmp_path: Path) -> None:
    """A job that others wait for at the same commit goes on and hears nothing of it."""
    repo = OddRepo(Odd(refuse_bytes=True), FILES)
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        with pytest.raises(DownloadNotFound, match=r"no modell\.safetensors"):
            await service.start(REPO, files=["config.json", "modell.safetensors"])
        assert service.list() == []
        job, _ = await service.start(REPO)
        await hub.refused.wait()
        with pytest.raises(DownloadNotFound):
            await service.start(REPO, files=["modell.safetensors"])
        assert service.get(job.id).state is JobState.DOWNLOADING
        repo.odd = Odd()
        job = await service.wait(job.id)
        assert (job.state, {f.path for f in job.files}) == (JobState.DONE, set(FILES))


async def test_what_was_cancelled_is_not_wanted_any_more(tmp_path: Path) -> None:
    repo = OddRepo(Odd(), FILES)
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        await service.cancel(job.id)
        job, _ = await service.start(REPO, files=["tokenizer.model"])
        job = await service.wait(job.id)
        assert {f.path for f in job.files} == {"tokenizer.model"}
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert {f.path for f in job.files} == FILES.keys()


async def test_a_commit_whose_files_changed_says_so_and_starts_afresh(tmp_path: Path) -> None:
    """A mirror should not do it; what the error's hint says must then help."""
    repo = OddRepo(Odd(refuse_bytes=True), FILES)
    other = {**FILES, "model.safetensors": content(CHUNK, seed=8)}
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, _ = await service.start(REPO)
        await hub.refused.wait()
        repo.files, repo.odd = other, Odd()
        job = await service.wait(job.id)
        assert job.error is not None
        assert (job.state, job.error.kind) == (JobState.FAILED, "download.error")
        await service.cancel(job.id)
        job, _ = await service.start(REPO)
        assert (await service.wait(job.id)).state is JobState.DONE
        got = service.on_disk(REPO)["model.safetensors"].read_bytes()
        assert sha256(got).digest() == sha256(other["model.safetensors"]).digest()


async def test_every_name_of_a_commit_finds_it(tmp_path: Path) -> None:
    """A second revision at the same commit needs no fetching, but it needs its ref."""
    cache = tmp_path / "cache"
    repo = OddRepo(Odd(), FILES, revisions=("main", "v1"))
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        first, _ = await service.start(REPO, revision="v1")
        second, _ = await service.start(REPO)
        assert first.id == second.id
        await service.wait(first.id)
        third, _ = await service.start(REPO, revision=COMMIT)
        assert third.state is JobState.DONE
    for revision in ("main", "v1", COMMIT):
        found = await asyncio.to_thread(
            hf_hub_download,
            REPO,
            "config.json",
            revision=revision,
            cache_dir=cache,
            local_files_only=True,
        )
        assert Path(found).read_bytes() == FILES["config.json"]


async def test_an_older_commit_that_ends_later_does_not_turn_the_branch_back(
    tmp_path: Path,
) -> None:
    old, new = "a" * 40, "b" * 40
    repo = OddRepo(Odd(refuse_bytes=True), FILES, commit=old)
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        first, _ = await service.start(REPO)
        await hub.refused.wait()
        await service.pause(first.id)
        repo.commit, repo.odd, repo.older = new, Odd(), (old,)
        second, created = await service.start(REPO)
        assert created
        await service.wait(second.id)
        await service.resume(first.id)
        assert (await service.wait(first.id)).state is JobState.DONE
    assert (tmp_path / "cache" / "models--org--parrot" / "refs" / "main").read_text() == new


async def test_what_another_job_had_and_is_gone_is_not_counted(tmp_path: Path) -> None:
    """The ledger still knows the chunks; neither the cache nor a partial file has them."""
    repos = {"org/one": OddRepo(Odd(), FILES), "org/two": OddRepo(Odd(), FILES)}
    cache = tmp_path / "cache"
    async with (
        OddHub(repos) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        for repo in repos:
            job, _ = await service.start(repo)
            job = await service.wait(job.id)
            assert (job.state, job.bytes_fetched) == (JobState.DONE, job.bytes_total)
            assert (job.bytes_rescued, job.bytes_refetched) == (0, 0)
            shutil.rmtree(cache)
