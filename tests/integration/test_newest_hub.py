"""The cache shared with the newest huggingface_hub: each reads what the other wrote."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web
from huggingface_hub import hf_hub_download

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from tests.fakes.downloads import make_service, running
from tests.fakes.newest_hub import newest
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import WEIGHTS, leftovers

pytestmark = pytest.mark.asyncio

SIZE = 4_000_000
FILES = ["config.json", WEIGHTS, "tokenizer.model"]
OTHER = "org/other"
XET_HASH = "ab" * 32


class WatchedHub(DemoHub):
    """``asked``: set once somebody fetches bytes."""

    asked: asyncio.Event

    async def _object(self, request: web.Request) -> web.StreamResponse:
        self.asked.set()
        return await super()._object(request)


class XetHub(DemoHub):
    """Tells of each large file that it is in Xet, too, as the real Hub does."""

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._resolve(request)
        if answer.status == 302:
            answer.headers.update({"X-Xet-Hash": XET_HASH, "X-Xet-Refresh-Route": "/nowhere"})
        return answer


async def bring(tmp_path: Path, endpoint: str, repo: str = REPO) -> Job:
    """Run moshid's job to its end."""
    async with running(make_service(tmp_path / "home", endpoint, tmp_path / "cache")) as service:
        job, _ = await service.start(repo)
        return await service.wait(job.id)


def digests(folder: Path) -> dict[str, str]:
    """What the files of a repository should be."""
    return {f: sha256((folder / f).read_bytes()).hexdigest() for f in FILES}


def assert_right(folder: Path, cache: Path) -> None:
    """huggingface_hub 0.28 finds the right files (and knows no CACHEDIR.TAG, of which it warns)."""
    for name, digest in digests(folder).items():
        found = hf_hub_download(REPO, name, cache_dir=cache, local_files_only=True)
        assert sha256(Path(found).read_bytes()).hexdigest() == digest


def fetched(hub: DemoHub) -> int:
    """GETs of content so far."""
    return sum(r.server == "cdn" and r.method == "GET" for r in hub.requests)


async def test_it_reads_what_moshid_published_and_fetches_nothing(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        assert (await bring(tmp_path, hub.endpoint)).state is JobState.DONE
        gets = fetched(hub)
        await newest("download", endpoint=hub.endpoint, cache=cache, repo=REPO, files=FILES)
        assert fetched(hub) == gets, "it goes on where moshid ended"
    told = await newest(
        "read", endpoint="http://127.0.0.1:9", cache=cache, offline=True, repo=REPO, files=FILES
    )
    assert told["digests"] == digests(folder)
    assert told["snapshot"] == sorted(FILES)
    assert told["warnings"] == []


async def test_moshid_uses_what_it_left(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        await newest("download", endpoint=hub.endpoint, cache=cache, repo=REPO, files=FILES)
        gets = fetched(hub)
        done = await bring(tmp_path, hub.endpoint)
        assert fetched(hub) == gets
    assert (done.state, done.bytes_fetched) == (JobState.DONE, 0)
    assert done.bytes_rescued == done.bytes_done == done.bytes_total
    assert_right(folder, cache)


async def test_both_at_once_on_the_same_blob_do_no_harm(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with WatchedHub(tmp_path / "hub", rate_bps=6_000_000) as hub:
        hub.asked = asyncio.Event()
        theirs = asyncio.create_task(
            newest("download", endpoint=hub.endpoint, cache=cache, repo=REPO, files=[WEIGHTS])
        )
        await hub.asked.wait()
        done = await bring(tmp_path, hub.endpoint)
        told = await theirs
        assert fetched(hub) > 1, "both were at it"
    assert done.state is JobState.DONE
    assert told["digests"][WEIGHTS] == digests(folder)[WEIGHTS]
    assert_right(folder, cache)
    assert leftovers(cache) == []
    assert list(cache.glob("*--*/blobs/*.*")) == [], "no unfinished file of theirs"


async def test_a_damaged_shared_blob_is_mended_for_all_and_goes_with_the_last(
    tmp_path: Path,
) -> None:
    """The newest version has put the weights into its store, and shows them by two repositories."""
    root, cache = tmp_path / "hub", tmp_path / "cache"
    make_repo(root, SIZE, repo=OTHER)
    folder = make_repo(root, SIZE)
    right = (folder / WEIGHTS).read_bytes()
    etag = sha256(right).hexdigest()
    blobs = [cache / f"models--{r.replace('/', '--')}" / "blobs" / etag for r in (REPO, OTHER)]
    async with XetHub(root) as hub:
        ask = partial(newest, endpoint=hub.endpoint, cache=cache)
        await bring(tmp_path, hub.endpoint)
        payload = Path((await ask("share", blob=str(blobs[0]), payload=XET_HASH))["path"])
        gets = fetched(hub)
        await ask("download", repo=OTHER, files=[WEIGHTS])
        assert fetched(hub) == gets, "it is in the store"
        assert [b.resolve() for b in blobs] == [payload.resolve()] * 2
        done = await bring(tmp_path, hub.endpoint, OTHER)
        assert done.bytes_fetched < 10_000, "moshid uses it, too"
        damage(payload)
        async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
            report = await service.verify(REPO, repair=True)
            assert (report.ok, report.repaired_bytes) == (True, 256 * 1024), "one chunk"
            assert all(b.is_symlink() and b.read_bytes() == right for b in blobs)
            told = await ask("read", repo=OTHER, files=[WEIGHTS])
            assert (told["digests"][WEIGHTS], told["warnings"]) == (etag, [])
            first = await service.space.delete([REPO])
            assert first is not None
            assert first.freed_bytes < SIZE
            assert blobs[1].read_bytes() == right
            last = await service.space.delete([OTHER])
            assert last is not None
            assert last.freed_bytes > SIZE
    assert not payload.exists()


def damage(payload: Path) -> None:
    """One byte of what nobody may write."""
    mode = payload.stat().st_mode
    payload.chmod(0o600)
    with payload.open("r+b") as file:
        byte = os.pread(file.fileno(), 1, 1_000_000)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1]), 1_000_000)
    payload.chmod(mode)
