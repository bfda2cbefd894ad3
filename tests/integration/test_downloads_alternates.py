"""Several endpoints: the first says what there is, the others give its bytes when it cannot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.fault_hub import Fault, FaultHub
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.repos import REPO, content, make_repo
from tests.integration.test_downloads import assert_in_cache

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 3_000_001
CHUNK = QUICK["auto"].chunk_bytes
FILES = {WEIGHTS: content(3 * CHUNK + 1, seed=5)}
NOWHERE = "http://127.0.0.1:1"


def ranges(hub: DemoHub) -> list[str]:
    """The ranges that a Hub's CDN was asked for."""
    return [r.range or "" for r in hub.requests if r.server == "cdn" and r.method == "GET"]


async def fetch(tmp_path: Path, endpoint: str, alternates: Sequence[str]) -> Job:
    """The weights, from ``endpoint`` or one of the others."""
    service = make_service(tmp_path / "home", endpoint, tmp_path / "cache", alternates=alternates)
    async with running(service):
        job, _ = await service.start(REPO, files=[WEIGHTS], workers=1)
        return await service.wait(job.id)


async def test_an_alternate_goes_on_when_the_first_endpoint_dies(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with AsyncExitStack() as stack, DemoHub(tmp_path / "hub") as other:
        first = DemoHub(tmp_path / "hub", rate_bps=4_000_000, token="hf_secret")
        await stack.enter_async_context(first)
        service = make_service(
            tmp_path / "home",
            first.endpoint,
            cache,
            bus=bus,
            token="hf_secret",
            alternates=[NOWHERE, other.endpoint],
        )
        async with running(service):
            moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_000_000))
            job, _ = await service.start(REPO)
            await moving
            assert not other.requests, "while the first gives, nobody else is asked"
            await stack.aclose()
            job = await service.wait(job.id)
        assert (job.state, job.bytes_refetched) == (JobState.DONE, 0)
        assert 0 < len(ranges(other)) < SIZE / CHUNK
        assert all(r.authorized for r in first.requests if r.server == "hub")
        assert not any(r.authorized for r in other.requests), "the token is the first one's alone"
    assert_in_cache(folder, cache, WEIGHTS)


async def test_bytes_come_from_elsewhere_if_only_the_first_ones_store_refuses(
    tmp_path: Path,
) -> None:
    first, other = OddRepo(Odd(refuse_bytes=True), FILES), OddRepo(Odd(), FILES)
    async with OddHub({REPO: first}) as hub, OddHub({REPO: other}) as mirror:
        job = await fetch(tmp_path, hub.endpoint, [mirror.endpoint])
        assert job.state is JobState.DONE
        assert mirror.seen["range"] == 4


@pytest.mark.parametrize("odd_one", ["bytes", "whole first", "size", "commit", "gated", "none"])
async def test_an_alternate_that_is_of_no_use_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, odd_one: str
) -> None:
    first, good = OddRepo(Odd(refuse_bytes=True), FILES), OddRepo(Odd(), FILES)
    bad = {
        "bytes": OddRepo(Odd(hops=20), FILES),
        "whole first": OddRepo(Odd(ranges=False, wrong_byte=True), FILES),
        "size": OddRepo(Odd(), {WEIGHTS: content(CHUNK, seed=6)}),
        "commit": OddRepo(Odd(), FILES, commit="b" * 40, older=()),
        "gated": OddRepo(Odd(refuse=(403, {"X-Error-Code": "GatedRepo"})), FILES),
        "none": OddRepo(Odd(), {}),
    }[odd_one]
    async with (
        OddHub({REPO: first}) as hub,
        OddHub({REPO: bad}) as useless,
        OddHub({REPO: good}) as mirror,
    ):
        job = await fetch(tmp_path, hub.endpoint, [useless.endpoint, mirror.endpoint])
        assert (job.state, job.chunks_corrupt) == (JobState.DONE, 0)
        assert 4 <= mirror.seen["range"] <= 6, "each chunk; a busy machine looks stalled"
        assert useless.seen["HEAD"] <= 2, "it is not asked again and again"
    named = [r for r in caplog.records if getattr(r, "endpoint", "") == useless.endpoint]
    assert [r.levelno for r in named] == [logging.WARNING]


async def test_a_mirror_never_decides_what_a_branch_is(tmp_path: Path) -> None:
    """With the first endpoint down a new job waits, and takes that one's word when it is back."""
    bus = Bus()
    other = OddRepo(Odd(), {WEIGHTS: content(CHUNK, seed=6)}, commit="b" * 40)
    async with OddHub({REPO: other}) as mirror:
        first = DemoHub(tmp_path / "hub")
        make_repo(tmp_path / "hub", SIZE)
        async with first:
            pass  # its port is known, and nobody listens there
        service = make_service(
            tmp_path / "home",
            first.endpoint,
            tmp_path / "cache",
            bus=bus,
            alternates=[mirror.endpoint],
        )
        async with running(service):
            tried = asyncio.create_task(until(bus, lambda j: j.retries >= 3))
            job, _ = await service.start(REPO, files=[WEIGHTS])
            job = await tried
            assert (job.state, job.commit, mirror.seen) == (JobState.PROBING, "", {})
            async with DemoHub(tmp_path / "hub", port=first.port):
                job = await service.wait(job.id)
        assert job.state is JobState.DONE
        assert job.commit != other.commit


async def test_with_all_dead_the_job_waits_and_recovers(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with AsyncExitStack() as stack:
        first, other = DemoHub(tmp_path / "hub", rate_bps=4_000_000), DemoHub(tmp_path / "hub")
        await stack.enter_async_context(first)
        await stack.enter_async_context(other)
        service = make_service(
            tmp_path / "home", first.endpoint, cache, bus=bus, alternates=[other.endpoint]
        )
        async with running(service):
            moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 1_000_000))
            job, _ = await service.start(REPO)
            await moving
            await stack.aclose()
            before = service.get(job.id).retries
            await until(bus, lambda j: j.retries > before + 20)
            async with DemoHub(tmp_path / "hub", port=other.port):
                job = await service.wait(job.id)
        assert (job.state, job.bytes_refetched) == (JobState.DONE, 0)
    assert_in_cache(folder, cache, WEIGHTS)


async def test_the_suspect_alone_comes_from_the_other_endpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A chunk that broke on its way is the suspect; its second half was wrong."""
    folder = make_repo(tmp_path / "hub", SIZE)
    faults = [Fault.NONE, Fault.NONE, Fault.EARLY_END, Fault.FLIPPED]
    async with FaultHub(tmp_path / "hub", faults) as first, DemoHub(tmp_path / "hub") as other:
        job = await fetch(tmp_path, first.endpoint, [other.endpoint])
        assert (job.state, job.chunks_corrupt, job.bytes_refetched) == (JobState.DONE, 1, CHUNK)
        assert ranges(other) == [f"bytes={2 * CHUNK}-{3 * CHUNK - 1}"]
        blamed = [r for r in caplog.records if "wrong bytes" in r.getMessage()]
        assert [getattr(r, "endpoint", "") for r in blamed] == [first.endpoint]
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS)


@pytest.mark.parametrize("liar", ["first", "second"])
async def test_who_always_gives_wrong_bytes_is_found_out_and_avoided(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, liar: str
) -> None:
    first = OddRepo(Odd(wrong_byte=liar == "first", refuse_bytes=liar == "second"), FILES)
    second = OddRepo(Odd(wrong_byte=True), FILES)
    third = OddRepo(Odd(), FILES)
    async with (
        OddHub({REPO: first}) as hub,
        OddHub({REPO: second}) as mirror,
        OddHub({REPO: third}) as good,
    ):
        others = [good.endpoint] if liar == "first" else [mirror.endpoint, good.endpoint]
        job = await fetch(tmp_path, hub.endpoint, others)
        assert (job.state, job.chunks_corrupt) == (JobState.DONE, 1)
        named = {"first": hub.endpoint, "second": mirror.endpoint}[liar]
        blamed = [r for r in caplog.records if "wrong bytes" in r.getMessage()]
        assert [getattr(r, "endpoint", "") for r in blamed] == [named]


async def test_wrong_bytes_from_everybody_fail_the_job_and_name_them(tmp_path: Path) -> None:
    first, other = (OddRepo(Odd(wrong_byte=True), FILES) for _ in range(2))
    async with OddHub({REPO: first}) as hub, OddHub({REPO: other}) as mirror:
        job = await fetch(tmp_path, hub.endpoint, [mirror.endpoint])
        assert job.error is not None
        assert (job.state, job.error.kind) == (JobState.FAILED, "download.digest_mismatch")
        assert hub.endpoint in job.error.message
        assert mirror.endpoint in job.error.message
