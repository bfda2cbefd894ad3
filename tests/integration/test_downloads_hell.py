"""The link from hell, small: whatever it does, the file arrives, right, with no help."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, hf_hub_download

from moshid.downloads.profiles import PROFILES, Profile
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.hell_hub import NAME, REPO, HellHub
from tests.fakes.hell_plan import Burst, Hell
from tests.fakes.repos import content

pytestmark = pytest.mark.asyncio

SIZE = 16_000_001
CONTENT = content(SIZE, seed=3)
TWICE_MAX = 0.02

PATIENT: Mapping[str, Profile] = {
    name: replace(p, chunk_bytes=1 << 20, stall_timeout_s=0.3, retry_first_s=0.01, retry_max_s=0.1)
    for name, p in PROFILES.items()
}

LINE = Hell(capacity_bps=40e6, latency_s=0.005, drip_s=0.05)
CUTS, STALLS = (1_000_000, 4_000_000), 3_000_000
OFFLINE = Burst(first_s=0.1, every_s=0.4, for_s=0.2)
ALONE = {
    "cut by RST": Hell(cut_bytes=CUTS),
    "stalled before the first byte": Hell(stall_bytes=STALLS),
    "expired": Hell(url_ttl_s=0.1),
    "signed URL, lost host": Hell(lost_host_share=0.5, url_ttl_s=0.2, seed=7),  # the first is
    "offline spells": Hell(offline=OFFLINE),
    "black hole spells": Hell(black_hole=OFFLINE),
}
"""By what the hub counts."""

TOGETHER = Hell(
    cut_bytes=CUTS,
    stall_bytes=STALLS,
    wrong_share=0.05,
    url_ttl_s=0.5,
    lost_host_share=0.1,
    too_many=Burst(first_s=0.2, for_s=0.3),
    unavailable=Burst(first_s=0.4, for_s=0.2),
    offline=Burst(first_s=0.3, for_s=0.2),
    black_hole=Burst(first_s=1.4, for_s=0.1),
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a small HF_HUB_ETAG_TIMEOUT: a question that is swallowed is asked again soon."""
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)


async def through(tmp_path: Path, hell: Hell, profile: str = "auto") -> dict[str, Any]:
    """The link's account after a job came through it: done, right, with hardly a byte sent
    twice."""
    hell = replace(
        hell, capacity_bps=LINE.capacity_bps, latency_s=LINE.latency_s, drip_s=LINE.drip_s
    )
    cache = tmp_path / "cache"
    async with (
        HellHub(CONTENT, hell) as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache, profiles=PATIENT)) as service,
    ):
        job, _ = await service.start(REPO, files=[NAME], profile=profile)
        job = await service.wait(job.id)
    assert (job.state, job.error) == (JobState.DONE, None), hell
    assert_cached(cache)
    told = hub.account.report()
    assert told["twice_share"] <= TWICE_MAX, (hell, told["counts"])
    return told


def assert_cached(cache: Path) -> None:
    """The right file stands in the cache."""
    found = hf_hub_download(REPO, NAME, cache_dir=cache, local_files_only=True)
    assert Path(found).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ALONE)
async def test_each_fault_alone(tmp_path: Path, fault: str) -> None:
    told = await through(tmp_path, ALONE[fault])
    assert told["counts"][fault] > 0


@pytest.mark.parametrize(
    ("seed", "profile"), [(1, "auto"), (2, "robust"), (3, "verified"), (4, "parallel")]
)
async def test_all_faults_together(tmp_path: Path, seed: int, profile: str) -> None:
    told = await through(tmp_path, replace(TOGETHER, seed=seed), profile)
    assert told["counts"].keys() >= {"offline spells", "429 spells", "503 spells"}


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (401, {}, "download.unauthorized"),
        (403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "no"}, "download.gated"),
        (404, {"X-Error-Code": "RepoNotFound"}, "download.not_found"),
    ],
    ids=["the token is revoked", "the gate is shut", "the repository is gone"],
)
async def test_a_real_no_in_mid_download_ends_the_job_by_its_kind(
    tmp_path: Path, status: int, headers: dict[str, str], kind: str
) -> None:
    """Its signed URL runs out, and the Hub gives no other. What has come is used when it does."""
    bus, cache = Bus(), tmp_path / "cache"
    async with (
        HellHub(CONTENT, replace(LINE, url_ttl_s=0.1)) as hub,
        running(
            make_service(
                tmp_path / "home", hub.endpoint, cache, profiles=PATIENT, bus=bus, token="hf_x"
            )
        ) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 0))
        job, _ = await service.start(REPO, files=[NAME])
        await moving
        hub.link.refuse = (status, headers)
        job = await service.wait(job.id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert (job.error.kind, bool(job.error.hint)) == (kind, True)
        hub.link.refuse = None
        job, _ = await service.start(REPO, files=[NAME])
        assert (await service.wait(job.id)).state is JobState.DONE
        assert hub.account.report()["twice_share"] < 0.2
    assert_cached(cache)
