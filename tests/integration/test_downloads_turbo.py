"""The profile turbo, with the real hf-transfer: it may fail in any way, the job does not."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.disk import Partial
from moshid.downloads.job import Job
from moshid.downloads.profiles import Profile
from moshid.downloads.states import JobState
from moshid.downloads.turbo_child import RANGE_BYTES
from moshid.downloads.turbo_helper import CHILD
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.fault_hub import Fault, FaultHub
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import (
    WEIGHTS,
    assert_in_cache,
    leftovers,
    weights_partial,
)

pytestmark = pytest.mark.asyncio

SIZE = 6 * RANGE_BYTES + 12_345
CHUNK_BYTES = RANGE_BYTES // 4
CONNECTIONS = 2
TOKEN = "hf_secret"
RATE_BPS = 50_000_000


def turbo(**changes: int | float) -> Mapping[str, Profile]:
    """The profile, for files as small as these."""
    numbers: dict[str, int | float] = {"chunk_bytes": CHUNK_BYTES, "whole_from_bytes": 1 << 20}
    numbers |= {"connections_max": CONNECTIONS, "stall_timeout_s": 20.0}
    return {"turbo": replace(QUICK["turbo"], **(numbers | changes))}  # type: ignore[arg-type]


def children(of: int | None = None) -> list[psutil.Process]:
    """The processes that run hf-transfer, and those that watch them."""
    below = psutil.Process(of).children(recursive=True)
    return [p for p in below if CHILD in p.cmdline()]


async def bring(tmp_path: Path, hub: DemoHub, profiles: Mapping[str, Profile]) -> Job:
    """Run the job to its end."""
    service = make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", profiles=profiles)
    async with running(service):
        job, _ = await service.start(REPO, profile="turbo")
        return await service.wait(job.id)


def told(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    """Why, of the log's lines that say ``what``."""
    return [getattr(r, "why", "") for r in caplog.records if what in r.message]


async def test_a_whole_file_comes_by_hf_transfer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_repo(tmp_path / "hub", SIZE)
    bus = Bus()
    async with DemoHub(tmp_path / "hub", rate_bps=RATE_BPS / 2, token=TOKEN) as hub:
        service = make_service(
            tmp_path / "home",
            hub.endpoint,
            tmp_path / "cache",
            bus=bus,
            profiles=turbo(),
            token=TOKEN,
        )
        async with running(service):
            moving = asyncio.create_task(
                until(bus, lambda j: j.rate_bps > 0 and SIZE > 2 * j.bytes_fetched > SIZE // 4)
            )
            job, _ = await service.start(REPO, profile="turbo")
            seen = await moving
            lines = [" ".join(p.cmdline()) for p in children()]
            done = await service.wait(job.id)
        assert (seen.connections, seen.eta_s is not None) == (CONNECTIONS, True)
        asked = {r.range for r in hub.requests if r.server == "cdn"}
        assert not any(r.authorized for r in hub.requests if r.server == "cdn")
    assert len(lines) == 2, "hf-transfer, and who watches it"
    assert not any(s in line for line in lines for s in ("Signature", "http", TOKEN))
    assert (done.state, done.retries, done.bytes_refetched) == (JobState.DONE, 0, 0)
    assert done.bytes_fetched == done.bytes_total == done.bytes_done
    assert f"bytes={RANGE_BYTES}-{2 * RANGE_BYTES - 1}" in asked, "hf-transfer's way of asking"
    assert not told(caplog, "hf-transfer failed")
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS)
    assert leftovers(tmp_path / "cache") == []
    assert children() == []


@pytest.mark.parametrize(
    ("faults", "chunks_corrupt"),
    [
        pytest.param([Fault.NONE] * 3 + [Fault.SERVER_ERROR] * 5, 0, id="the server dies"),
        pytest.param([Fault.NONE] * 3 + [Fault.EARLY_END] * 5, 0, id="the line breaks"),
        pytest.param([Fault.PORTAL], 0, id="a portal"),
        pytest.param([Fault.NONE] * 3 + [Fault.FLIPPED], 1, id="a wrong byte"),
        pytest.param(
            [Fault.NONE] * 2 + [Fault.WHOLE_FILE_200] * 5, None, id="the whole for a range"
        ),
    ],
)
async def test_whatever_goes_wrong_the_job_goes_on(
    tmp_path: Path, faults: Iterable[Fault], chunks_corrupt: int | None
) -> None:
    folder = make_repo(tmp_path / "hub", SIZE)
    async with FaultHub(tmp_path / "hub", faults) as hub:
        done = await bring(tmp_path, hub, turbo(connections_max=4))
        assert not hub.faults, "all of them happened"
    assert done.state is JobState.DONE
    if chunks_corrupt is None:
        assert done.retries or done.chunks_corrupt
    else:
        assert done.chunks_corrupt == chunks_corrupt
        assert (done.retries > 0) is not bool(chunks_corrupt)
        if not chunks_corrupt:  # else all are suspects, and hf-transfer keeps no order
            assert done.bytes_fetched < 1.9 * SIZE, "what had come was used"
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS)
    assert leftovers(tmp_path / "cache") == []


async def test_a_stall_ends_it_and_not_the_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_repo(tmp_path / "hub", SIZE)
    faults = [Fault.NONE] * 4 + [Fault.STALL_IN_BODY] * 2
    async with FaultHub(tmp_path / "hub", faults) as hub:
        done = await bring(tmp_path, hub, turbo(stall_timeout_s=0.6))
    assert told(caplog, "hf-transfer failed") == ["nothing came for 0.6 s"]
    assert (done.state, done.chunks_corrupt) == (JobState.DONE, 0)
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS)


async def test_a_limit_ends_it_since_it_would_not_keep_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, bus = make_repo(tmp_path / "hub", SIZE), Bus()
    async with DemoHub(tmp_path / "hub", rate_bps=RATE_BPS) as hub:
        service = make_service(
            tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus, profiles=turbo()
        )
        async with running(service):
            moving = asyncio.create_task(until(bus, lambda j: j.bytes_fetched > SIZE // 3))
            job, _ = await service.start(REPO, profile="turbo")
            await moving
            await service.controls.set_limits(limit_bps=RATE_BPS)
            done = await service.wait(job.id)
    assert told(caplog, "hf-transfer failed") == ["a limit is set, which does not reach it"]
    assert (done.state, done.retries) == (JobState.DONE, 1)
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS)


async def test_its_process_may_be_killed(tmp_path: Path) -> None:
    folder, bus = make_repo(tmp_path / "hub", SIZE), Bus()
    async with DemoHub(tmp_path / "hub", rate_bps=RATE_BPS) as hub:
        service = make_service(
            tmp_path / "home", hub.endpoint, tmp_path / "cache", bus=bus, profiles=turbo()
        )
        async with running(service):
            moving = asyncio.create_task(until(bus, lambda j: j.bytes_fetched > SIZE // 3))
            job, _ = await service.start(REPO, profile="turbo")
            await moving
            worker = psutil.Process().children()
            next(p for p in worker if CHILD in p.cmdline()).kill()
            done = await service.wait(job.id)
    assert (done.state, done.retries) == (JobState.DONE, 1)
    assert done.bytes_refetched < 2 * CONNECTIONS * RANGE_BYTES
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS)
    assert children() == []


async def test_pause_and_cancel_end_its_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, bus, cache = make_repo(tmp_path / "hub", SIZE), Bus(), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub", rate_bps=RATE_BPS) as hub:
        service = make_service(tmp_path / "home", hub.endpoint, cache, bus=bus, profiles=turbo())
        async with running(service):
            for give_up in (True, False):
                moving = asyncio.create_task(
                    until(bus, lambda j: j.state == "downloading" and j.bytes_fetched > SIZE // 5)
                )
                job, _ = await service.start(REPO, profile="turbo")
                await moving
                await (service.cancel if give_up else service.pause)(job.id)
                _gone, alive = psutil.wait_procs(children(), timeout=10)
                assert not alive, "its watcher, too"
                if give_up:
                    assert leftovers(cache) == []
            Partial.open(weights_partial(cache), SIZE).close()  # nobody has the lock
            paused = service.get(job.id)
            assert 0 < paused.bytes_done < SIZE
            await service.resume(job.id)
            done = await service.wait(job.id)
    assert "some of the file is there already" in told(caplog, "hf-transfer is not used")
    assert done.state is JobState.DONE
    assert done.bytes_fetched < SIZE + 2 * CONNECTIONS * RANGE_BYTES
    assert_in_cache(folder, cache, WEIGHTS)


async def test_it_dies_with_the_daemon_and_frees_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub", rate_bps=RATE_BPS) as hub:
        arguments = [tmp_path / "home", hub.endpoint, cache, CHUNK_BYTES, "turbo"]
        command = [sys.executable, "-m", "tests.fakes.download_child", *map(str, arguments)]
        daemon = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert daemon.stdout is not None
        async for line in daemon.stdout:
            if json.loads(line)["bytes_fetched"] > SIZE // 2:
                break
        orphans = children(daemon.pid)
        assert len(orphans) == 2
        daemon.kill()
        await daemon.wait()
        _gone, alive = await asyncio.to_thread(psutil.wait_procs, orphans, timeout=10)
        assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
        assert list((tmp_path / "tmp").iterdir()) == []
        Partial.open(weights_partial(cache), SIZE).close()
        done = await bring(tmp_path, hub, turbo())
        assert hub.line.sent_bytes < SIZE + 2 * CONNECTIONS * RANGE_BYTES, (
            "what had landed was used"
        )
    assert done.state is JobState.DONE
    assert_in_cache(folder, cache, WEIGHTS)


async def test_the_lock_is_kept_while_its_process_lives(tmp_path: Path) -> None:
    """As when the daemon is killed and its child is stopped: nobody else may write the file."""
    partial = Partial.open(tmp_path / "f.part", 1)
    child = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, pass_fds=(partial.fd,)
    )
    partial.close()
    child.send_signal(signal.SIGSTOP)
    with pytest.raises(Exception, match="another moshid"):
        Partial.open(tmp_path / "f.part", 1)
    child.kill()
    await child.wait()
    Partial.open(tmp_path / "f.part", 1).close()


@pytest.mark.parametrize("changes", [{"whole_from_bytes": 1 << 30}])
async def test_small_files_come_the_ordinary_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, int]
) -> None:
    caplog.set_level(logging.INFO)
    make_repo(tmp_path / "hub", 100_000)
    async with DemoHub(tmp_path / "hub") as hub:
        done = await bring(tmp_path, hub, turbo(**changes))
    assert done.state is JobState.DONE
    assert set(told(caplog, "hf-transfer is not used")) == {"the file is small"}


async def test_a_helper_that_cannot_start_is_no_matter(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repo(tmp_path / "hub", SIZE)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    async with DemoHub(tmp_path / "hub") as hub:
        done = await bring(tmp_path, hub, turbo())
    assert told(caplog, "hf-transfer failed") == [
        "its process cannot be started (No such file or directory)"
    ]
    assert (done.state, done.retries) == (JobState.DONE, 1)
