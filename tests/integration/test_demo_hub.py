"""The real huggingface_hub client against the Hub on loopback: proof that the Hub is one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import get_hf_file_metadata, hf_hub_url

from moshid.demo.hub import DemoHub
from tests.fakes.repos import REPO, make_repo

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"


async def _in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return await asyncio.to_thread(call, *args, **kwargs)


async def test_hf_hub_download_gets_large_and_small_files_byte_for_byte(tmp_path: Path) -> None:
    folder = make_repo(tmp_path / "hub", 3_000_001)
    cache = tmp_path / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        for name in (WEIGHTS, "config.json", "sub/notes.txt"):
            got = await _in_thread(
                hf_hub_download, REPO, name, endpoint=hub.endpoint, cache_dir=cache
            )
            assert Path(got).read_bytes() == (folder / name).read_bytes()
        served = {(s.server, s.method) for s in hub.requests}
        assert {("hub", "HEAD"), ("cdn", "GET"), ("hub", "GET")} <= served
    assert not scan_cache_dir(cache).warnings


async def test_snapshot_download_gets_everything(tmp_path: Path) -> None:
    folder = make_repo(tmp_path / "hub", 200_000)
    async with DemoHub(tmp_path / "hub") as hub:
        got = await _in_thread(
            snapshot_download, REPO, endpoint=hub.endpoint, cache_dir=tmp_path / "cache"
        )
    wanted = {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    found = {f.relative_to(got): f.read_bytes() for f in Path(got).rglob("*") if f.is_file()}
    assert found == wanted


async def test_listing_names_digests(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", 1000)
    async with DemoHub(tmp_path / "hub") as hub:
        api = HfApi(endpoint=hub.endpoint)
        info = await _in_thread(api.model_info, REPO, files_metadata=True)
        url = hf_hub_url(REPO, WEIGHTS, endpoint=hub.endpoint)
        metadata = await _in_thread(get_hf_file_metadata, url)
    by_name = {s.rfilename: s for s in info.siblings}
    assert by_name[WEIGHTS].lfs.sha256 == metadata.etag
    assert by_name[WEIGHTS].size == metadata.size == 1000
    assert by_name["config.json"].lfs is None
    assert len(by_name["config.json"].blob_id) == 40
    assert info.sha == metadata.commit_hash


@pytest.mark.parametrize(
    ("repo", "revision", "name", "error"),
    [
        ("org/none", "main", WEIGHTS, RepositoryNotFoundError),
        (REPO, "v9", WEIGHTS, RevisionNotFoundError),
        (REPO, "main", "none.bin", EntryNotFoundError),
        ("org/gated", "main", WEIGHTS, GatedRepoError),
    ],
)
async def test_what_is_missing_is_named(
    tmp_path: Path, repo: str, revision: str, name: str, error: type[HfHubHTTPError]
) -> None:
    make_repo(tmp_path / "hub", 1000)
    make_repo(tmp_path / "hub", 1000, repo="org/gated")
    async with DemoHub(tmp_path / "hub", gated=["org/gated"]) as hub:
        url = hf_hub_url(repo, name, revision=revision, endpoint=hub.endpoint)
        with pytest.raises(error):
            await _in_thread(get_hf_file_metadata, url)


async def test_token_is_required_and_kept_from_the_cdn(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", 1000)
    async with DemoHub(tmp_path / "hub", token="hf_right") as hub:
        url = hf_hub_url(REPO, WEIGHTS, endpoint=hub.endpoint)
        with pytest.raises(HfHubHTTPError, match="401"):
            await _in_thread(get_hf_file_metadata, url)
        with pytest.raises(HfHubHTTPError, match="401"):
            await _in_thread(get_hf_file_metadata, url, token="hf_wrong")
        await _in_thread(
            hf_hub_download,
            REPO,
            WEIGHTS,
            endpoint=hub.endpoint,
            cache_dir=tmp_path / "cache",
            token="hf_right",
        )
        assert not any(s.authorized for s in hub.requests if s.server == "cdn")


async def test_ranges_expiry_and_forged_signatures(tmp_path: Path) -> None:
    weights = (make_repo(tmp_path / "hub", 1000) / WEIGHTS).read_bytes()
    async with DemoHub(tmp_path / "hub") as hub, aiohttp.ClientSession() as session:
        resolve = f"{hub.endpoint}/{REPO}/resolve/main/{WEIGHTS}"
        async with session.head(resolve, allow_redirects=False) as head:
            assert head.status == 302
            location = head.headers["Location"]
        for wanted, status, body in [
            ("bytes=10-19", 206, weights[10:20]),
            ("bytes=990-", 206, weights[990:]),
            ("bytes=-5", 206, weights[-5:]),
            ("bytes=1000-", 416, None),
        ]:
            async with session.get(location, headers={"Range": wanted}) as answer:
                assert answer.status == status
                assert body is None or await answer.read() == body
        async with session.get(location + "0") as answer:
            assert answer.status == 403
        hub.url_ttl_s = -1.0
        async with session.get(resolve) as answer:
            assert answer.status == 403


async def test_cut_drops_the_connection_in_mid_body(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", 2_000_000)
    url_path = f"/{REPO}/resolve/main/{WEIGHTS}"
    async with (
        DemoHub(tmp_path / "hub", cut_after_bytes=[500_000]) as hub,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(hub.endpoint + url_path) as answer:
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        async with session.get(hub.endpoint + url_path) as answer:
            assert len(await answer.read()) == 2_000_000
        assert hub.line.cuts_done == 1


async def test_the_line_is_as_slow_as_it_was_told(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", 200_000)
    loop = asyncio.get_running_loop()
    async with (
        DemoHub(tmp_path / "hub", rate_bps=400_000) as hub,
        aiohttp.ClientSession() as session,
    ):
        start_s = loop.time()
        async with session.get(f"{hub.endpoint}/{REPO}/resolve/main/{WEIGHTS}") as answer:
            await answer.read()
        assert loop.time() - start_s > 0.4


async def test_runs_by_itself_until_sigterm(tmp_path: Path) -> None:
    make_repo(tmp_path / "hub", 1000)
    arguments = ["-m", "moshid.demo.hub", "--root", str(tmp_path / "hub"), "--cut-at", "1", "2"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    place = json.loads(await process.stdout.readline())
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{place['endpoint']}/api/models/{REPO}") as answer,
    ):
        assert (await answer.json())["id"] == REPO
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
