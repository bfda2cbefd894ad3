"""Hubs that make other legal choices than ours: a job arrives right, or ends by the right kind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, scan_cache_dir

from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from moshid.errors import DownloadError, DownloadGated, DownloadNotFound
from tests.fakes.downloads import QUICK, make_service, running
from tests.fakes.odd_hubs import COMMIT, Odd, OddHub, OddRepo
from tests.fakes.repos import REPO, content

pytestmark = pytest.mark.asyncio

CHUNK = QUICK["auto"].chunk_bytes
WEIGHTS = content(3 * CHUNK + 1, seed=7)
FILES = {"config.json": b'{"dim": 256}', "model.safetensors": WEIGHTS, "tokenizer.model": b"abc"}

ODD = {
    "the Hub itself gives the bytes": Odd(bytes_at="here"),
    "another port": Odd(bytes_at="other port"),
    "relative, signed": Odd(bytes_at="relative"),
    "three places in a row": Odd(hops=2, bytes_at="other port"),
    "307": Odd(redirect=307),
    "308, relative": Odd(redirect=308, bytes_at="relative"),
    "weak etags": Odd(etag='W/"{}"'),
    "bare etags": Odd(etag="{}"),
    "the digest in ETag only": Odd(linked_etag=False),
    "no size with the redirect": Odd(linked_size=False),
    "no size with a relative redirect": Odd(linked_size=False, bytes_at="relative"),
    "HEAD without a length": Odd(length=False, linked_size=False, bytes_at="here"),
    "no commit": Odd(commit=False),
    "small files by redirect": Odd(small_by_redirect=True),
    "HTTP/1.0": Odd(version="HTTP/1.0"),
    "HTTP/1.0 without lengths": Odd(version="HTTP/1.0", body="close", linked_size=False),
    "a connection for each answer": Odd(keep_alive=False),
    "chunked": Odd(body="chunked"),
    "chunked without lengths": Odd(body="chunked", length=False, linked_size=False),
    "long headers": Odd(headers={"Content-Security-Policy": "x" * 40_000}),
    "404 without codes": Odd(error_codes=False),
    "no listing": Odd(listing=False),
    "no HEAD": Odd(head=False, length=False, linked_size=False),
    "HEAD is forbidden": Odd(head=False, no_head=403, length=False, linked_size=False),
    "early hints": Odd(early=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2),
    "no HEAD, the Hub itself gives the bytes": Odd(head=False, bytes_at="here"),
}


async def fetch(
    tmp_path: Path, repo: OddRepo, *, revision: str = "main", files: list[str] | None = None
) -> tuple[Job, OddHub]:
    """One job against a Hub with that repository; what is done is right, byte for byte."""
    cache = tmp_path / "cache"
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO, revision=revision, files=files)
        job = await service.wait(job.id)
    if job.state is JobState.DONE:
        assert job.error is None
        assert job.bytes_done == job.bytes_total
        for file in job.files:
            got = hf_hub_download(
                REPO, file.path, revision=revision, cache_dir=cache, local_files_only=True
            )
            assert Path(got).read_bytes() == repo.files[file.path]
        assert not scan_cache_dir(cache).warnings
    return job, hub


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
async def test_other_legal_choices_bring_the_same_file(tmp_path: Path, odd: Odd) -> None:
    job, hub = await fetch(tmp_path, OddRepo(odd, FILES))
    assert job.state is JobState.DONE
    assert {f.path for f in job.files} == FILES.keys()
    assert job.bytes_refetched == 0
    assert job.retries <= 1, "a busy machine looks like a stalled line, once"
    assert not hub.seen["token elsewhere"]


@pytest.mark.parametrize("body", ["length", "chunked", "close"])
async def test_a_server_without_ranges_gives_the_file_in_one_piece(
    tmp_path: Path, body: str
) -> None:
    """Chunk after chunk out of one stream; a cut begins again and skips what is there."""
    odd = Odd(ranges=False, body=body, headers={"Accept-Ranges": "none"})
    job, hub = await fetch(tmp_path, OddRepo(odd, FILES))
    assert job.state is JobState.DONE
    assert (job.chunks_corrupt, job.bytes_refetched) == (0, 0)
    assert hub.seen["whole"] < 20


async def test_a_cut_stream_without_ranges_goes_on_where_it_broke(tmp_path: Path) -> None:
    cut_at = 2 * CHUNK + 100_000
    odd = Odd(ranges=False, cut_at=(cut_at,) * 12)
    job, _hub = await fetch(tmp_path, OddRepo(odd, FILES), files=["model.safetensors"])
    assert job.state is JobState.DONE
    assert job.bytes_refetched >= cut_at
    assert job.bytes_fetched == job.bytes_total + job.bytes_refetched


async def test_a_server_that_forgets_its_ranges_is_read_in_one_piece(tmp_path: Path) -> None:
    job, _hub = await fetch(tmp_path, OddRepo(Odd(whole_after=3), FILES))
    assert job.state is JobState.DONE
    assert job.chunks_corrupt == 0


@pytest.mark.parametrize("odd", [Odd(wrong_byte=True), Odd(wrong_byte=True, ranges=False)])
@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
async def test_a_mirror_that_is_always_wrong_ends_by_its_kind(
    tmp_path: Path, odd: Odd, path: str
) -> None:
    files = None if path == "config.json" else [path]
    job, _hub = await fetch(tmp_path, OddRepo(odd, FILES), files=files)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.kind == "download.digest_mismatch"
    assert not list((tmp_path / "cache").rglob("blobs/*"))


@pytest.mark.parametrize("odd", [Odd(), Odd(ranges=False), Odd(length=False, body="chunked")])
async def test_names_and_sizes_of_all_sorts(tmp_path: Path, odd: Odd) -> None:
    files = {
        "empty.txt": b"",
        "empty.bin": b"",
        "one.txt": b"1",
        "one.bin": b"2",
        "chunks.bin": WEIGHTS[: 2 * CHUNK],
        "sub/deep er/c+d & e=f.safetensors": WEIGHTS[:1000],
        "ünï/cödé 声.txt": b"hi",
        "100%20 #1?.txt": b"x",
    }
    job, _hub = await fetch(tmp_path, OddRepo(odd, files))
    assert job.state is JobState.DONE
    assert {f.path for f in job.files} == files.keys()


@pytest.mark.parametrize("revision", ["dev", "refs/pr/1", "v1.0", COMMIT])
@pytest.mark.parametrize("odd", [Odd(), Odd(commit=False, error_codes=False)])
async def test_branches_tags_and_commits(tmp_path: Path, odd: Odd, revision: str) -> None:
    repo = OddRepo(odd, FILES, revisions=("dev", "refs/pr/1", "v1.0"))
    job, _hub = await fetch(tmp_path, repo, revision=revision)
    assert (job.state, job.commit) == (JobState.DONE, COMMIT)


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, DownloadGated),
        (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "no"}, DownloadGated),
        (403, {"X-Error-Message": "no"}, DownloadGated),
        (401, {}, DownloadNotFound),
        (404, {}, DownloadNotFound),
        (404, {"X-Error-Code": "RepoNotFound"}, DownloadNotFound),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, DownloadError),
    ],
)
async def test_a_no_is_told_by_its_kind(
    tmp_path: Path, status: int, headers: dict[str, str], error: type[DownloadError]
) -> None:
    with pytest.raises(error):
        await fetch(tmp_path, OddRepo(Odd(refuse=(status, headers)), FILES))


async def test_what_any_box_may_answer_is_believed_after_a_while(tmp_path: Path) -> None:
    errors = [DownloadError, DownloadError, DownloadNotFound, DownloadError, DownloadError]
    kinds = dict(zip([400, 402, 410, 451, 302], errors, strict=True))
    said = {"X-Error-Message": "because", "Location": "/org/302"}
    repos = {f"org/{s}": OddRepo(Odd(refuse=(s, said)), FILES) for s in kinds}
    async with (
        OddHub(repos) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        jobs = [(await service.start(f"org/{s}"))[0] for s in kinds]
        done = await asyncio.gather(*(service.wait(j.id) for j in jobs))
    for job, kind in zip(done, kinds.values(), strict=True):
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.kind == kind.kind
        assert ("in a circle" if job.repo == "org/302" else "because") in job.error.message


async def test_a_wrong_size_told_once_does_not_stay(tmp_path: Path) -> None:
    repo = OddRepo(Odd(bytes_at="other port"), FILES)
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        hub.wrong_sizes = [CHUNK]
        job, _ = await service.start(REPO, files=["model.safetensors"])
        job = await service.wait(job.id)
        assert (job.state, job.bytes_total) == (JobState.DONE, len(WEIGHTS))


@pytest.mark.parametrize(
    "refusal",
    [(302, {}), (307, {"Location": "/org/parrot/resolve/main/config.json"}), (200, {})],
    ids=["no location", "a circle", "a page"],
)
async def test_nonsense_is_asked_again_until_it_makes_sense(
    tmp_path: Path, refusal: tuple[int, dict[str, str]]
) -> None:
    repo = OddRepo(Odd(refuse=refusal), FILES)
    async with (
        OddHub({REPO: repo}) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache")) as service,
    ):
        job, created = await service.start(REPO)
        assert created
        repo.odd = replace(repo.odd, refuse=None)
        assert (await service.wait(job.id)).state is JobState.DONE


async def test_the_token_is_sent_to_the_hub_only(tmp_path: Path) -> None:
    repo = OddRepo(Odd(token="hf_x", hops=1, bytes_at="other port", linked_size=False), FILES)
    async with (
        OddHub({REPO: repo}) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", token="hf_x")
        ) as service,
    ):
        job, _ = await service.start(REPO)
        assert (await service.wait(job.id)).state is JobState.DONE
        assert not hub.seen["token elsewhere"]
