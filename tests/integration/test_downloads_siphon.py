"""A fast plain line is read by threads: the same faults, the same bytes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from moshid.downloads.allowance import Unlimited
from moshid.downloads.disk import DiskPool
from moshid.downloads.intake import Intake
from moshid.downloads.landing import ChunkLanding
from moshid.downloads.profiles import Profile
from moshid.downloads.service import DownloadService
from moshid.downloads.siphon import HEAD_BYTES, Errand, ReadsUpTo
from moshid.downloads.stall import Stalls
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import QUICK, make_service, running, until
from tests.fakes.fault_hub import Fault, FaultHub
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache
from tests.unit.test_whole import Fetch, fetching

pytestmark = pytest.mark.asyncio

P = ParamSpec("P")
T = TypeVar("T")

WEIGHTS = "model.safetensors"
SIZE = 20_000_001
MIB = 1 << 20


def profiles(siphon_bps: float) -> Mapping[str, Profile]:
    """Chunks that take several hops; every line that is faster than this is read by threads."""
    return {
        n: replace(p, chunk_bytes=4 * MIB, siphon_bps=siphon_bps, stall_timeout_s=1.0)
        for n, p in QUICK.items()
    }


def by_threads(service: DownloadService) -> bool:
    """Whether threads have read a line of this service."""
    return service._running().lines.given > 0


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [Fault.EARLY_END, Fault.NONE, Fault.EARLY_END],
        [Fault.STALL_IN_BODY, Fault.NONE],
        [Fault.DRIP],
        [Fault.FLIPPED],
        [Fault.EARLY_END] * 4 + [Fault.WHOLE_FILE_200] * 8,
    ],
)
async def test_whatever_happens_the_bytes_are_right(tmp_path: Path, faults: list[Fault]) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with (
        FaultHub(tmp_path / "hub", faults) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, cache, profiles=profiles(0.0))
        ) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS])
        job = await service.wait(job.id)
        assert by_threads(service)
    assert job.state is JobState.DONE
    assert_in_cache(folder, cache, WEIGHTS)
    if not {Fault.FLIPPED, Fault.WHOLE_FILE_200} & set(faults):
        assert (job.bytes_fetched, job.bytes_refetched) == (SIZE, 0)


async def test_a_slow_line_stays_with_the_event_loop(tmp_path: Path) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with (
        FaultHub(tmp_path / "hub") as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, cache, profiles=profiles(1e15))
        ) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS])
        assert (await service.wait(job.id)).state is JobState.DONE
        assert not by_threads(service)
    assert_in_cache(folder, cache, WEIGHTS)


async def test_a_pause_in_mid_hop_keeps_what_has_come(tmp_path: Path) -> None:
    folder, cache, bus = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache", Bus()
    async with (
        FaultHub(tmp_path / "hub", [Fault.STALL_IN_BODY] * 3) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, cache, bus=bus, profiles=profiles(0.0))
        ) as service,
    ):
        moving = asyncio.create_task(until(bus, lambda j: j.bytes_done > 2 * MIB))
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await moving
        paused = await service.pause(job.id)
        assert paused.bytes_done > 2 * MIB
        await service.resume(job.id)
        done = await service.wait(job.id)
    assert (done.state, done.bytes_refetched) == (JobState.DONE, 0)
    assert_in_cache(folder, cache, WEIGHTS)


class LimitedSoon(Unlimited):
    """Free until a thread asks whether it may go on; what was granted and charged after that."""

    def __init__(self) -> None:
        self.granted_bytes = self.charged_bytes = 0
        self._limited = False

    @property
    def free(self) -> bool:
        self._limited |= threading.current_thread() is not threading.main_thread()
        return not self._limited

    @free.setter
    def free(self, _free: bool) -> None:
        raise AssertionError("nobody sets it")

    async def grant(self, want_bytes: int) -> int:
        if self._limited:
            want_bytes = min(want_bytes, MIB // 4)
            self.granted_bytes += want_bytes
        return want_bytes

    def charge(self, extra_bytes: int) -> None:
        if self._limited:
            self.charged_bytes += extra_bytes


async def take(
    fetch: Fetch, hub: FaultHub, allowance: Unlimited, *, at: int = 0, fast: bool = True
) -> int:
    """Take the first chunk, or what of it comes from ``at`` on, out of an answer with all of it;
    returns its size."""
    limits, chunk = Stalls(30.0, asyncio.get_running_loop().time), fetch.trust.chunks[0]
    intake = Intake(
        *(fetch.engine, fetch.trust.meter, fetch.trust.files, fetch.partial, fetch.keeper),
        *(allowance, 2 * MIB, 0.0 if fast else 1e15, None, fast),
    )
    rounds = asyncio.create_task(fetch.keeper.run())
    url = f"{hub.endpoint}/{REPO}/resolve/main/{WEIGHTS}"
    async with fetch.engine.session.get(url, headers={"Range": chunk.range.header}) as answer:
        landing = ChunkLanding.begin(chunk)
        landing.at += at
        await intake.take([landing], answer, chunk.range, limits.watch(lambda: False))
    rounds.cancel()
    return chunk.size


class Watched(DiskPool):
    """Whether somebody listened to each connection when a thread was asked for."""

    def __init__(self) -> None:
        super().__init__(1)
        self.listened: list[bool] = []

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.listened += [a.watch.listening for a in args if isinstance(a, Errand)]
        return await super().run(work, *args, **kwargs)


async def test_while_it_waits_for_a_thread_the_line_is_not_to_blame(tmp_path: Path) -> None:
    """A disk that takes nothing for a while holds all of them."""
    make_repo(tmp_path / "hub", SIZE)
    async with FaultHub(tmp_path / "hub") as hub, fetching(tmp_path, SIZE, 16 * MIB) as fetch:
        threads = Watched()
        await take(replace(fetch, engine=replace(fetch.engine, lines=threads)), hub, Unlimited())
        threads.close()
    assert threads.listened
    assert not any(threads.listened)


class Counting(Unlimited):
    """Gives little at a time, and counts."""

    def __init__(self) -> None:
        self.free, self.read_bytes = False, 0

    async def grant(self, want_bytes: int) -> int:
        self.read_bytes += min(want_bytes, MIB // 4)
        return min(want_bytes, MIB // 4)

    def charge(self, extra_bytes: int) -> None:
        self.read_bytes += extra_bytes


async def test_what_is_skipped_counts_for_a_limit_too(tmp_path: Path) -> None:
    """A range that begins earlier, a whole file of which the first half is there."""
    make_repo(tmp_path / "hub", SIZE)
    allowance = Counting()
    async with FaultHub(tmp_path / "hub") as hub, fetching(tmp_path, SIZE, 16 * MIB) as fetch:
        size = await take(fetch, hub, allowance, at=3 * MIB + 5, fast=False)
    assert allowance.read_bytes == size


async def test_a_limit_that_is_set_in_mid_chunk_is_not_owed_for_what_came_before(
    tmp_path: Path,
) -> None:
    make_repo(tmp_path / "hub", SIZE)
    allowance = LimitedSoon()
    async with FaultHub(tmp_path / "hub") as hub, fetching(tmp_path, SIZE, 16 * MIB) as fetch:
        size = await take(fetch, hub, allowance)
    limited_bytes = allowance.granted_bytes + allowance.charged_bytes
    assert 0 < limited_bytes < size, "what came freely is not owed"


class Talkative(FaultHub):
    """``connections``: whence its files were asked for. It says ``more`` after each body."""

    def __init__(self, root: Path, more: bytes) -> None:
        super().__init__(root)
        self.connections: list[object] = []
        self._more = more

    async def _object(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.connections.append(request.transport.get_extra_info("peername"))
        answer = await super()._object(request)
        await answer.write_eof()
        request.transport.write(self._more)
        return answer


@pytest.mark.parametrize("more", [b"", b"\xee" * 1000], ids=["silent", "babbling"])
async def test_a_body_that_was_read_to_its_end_leaves_its_connection_to_the_next(
    tmp_path: Path, more: bytes
) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with (
        Talkative(tmp_path / "hub", more) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, cache, profiles=profiles(0.0))
        ) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS], workers=1)
        assert (await service.wait(job.id)).state is JobState.DONE
        assert by_threads(service)
    assert_in_cache(folder, cache, WEIGHTS)
    assert len(hub.connections) >= 5
    if not more:
        assert len(set(hub.connections)) == 1


async def test_what_a_transport_reads_at_once_can_be_set(tmp_path: Path) -> None:
    async with FaultHub(tmp_path) as hub:
        url = urlsplit(hub.endpoint)
        _reader, writer = await asyncio.open_connection(url.hostname, url.port)
        assert isinstance(writer.transport, ReadsUpTo)
        assert writer.transport.max_size > HEAD_BYTES
        writer.close()
        await writer.wait_closed()
