"""Repair under arbitrary damage: it converges, fetches what it must, publishes nothing wrong."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from aiohttp import web
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from moshid.demo.hub import DemoHub
from moshid.downloads.job import Job, VerifyReport
from moshid.downloads.states import JobState
from tests.fakes.downloads import QUICK, make_service, running
from tests.fakes.repos import REPO, make_repo

WEIGHTS = "model.safetensors"
CHUNK = 64 * 1024
CHUNKS = 12
SIZE = CHUNKS * CHUNK - 1000
DOUBTS_MAX = 2
"""So often at most comes each chunk again, while none can be blamed."""
PROFILES = {n: replace(p, chunk_bytes=CHUNK) for n, p in QUICK.items()}
SETTINGS = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.too_slow],
)


class LyingHub(DemoHub):
    """Its CDN gives one wrong byte of each chunk in ``lies``, so often."""

    def __init__(self, root: Path, lies: dict[int, int]) -> None:
        super().__init__(root)
        self.lies = Counter(lies)

    async def _object(self, request: web.Request) -> web.StreamResponse:
        first, last = (int(n) for n in request.headers["Range"][6:].split("-"))
        touched = [i for i in self.lies if self.lies[i] and first <= i * CHUNK + 7 <= last]
        entry = self._by_sha256[request.match_info["sha256"]]
        if entry.size != SIZE or not touched:
            return await super()._object(request)
        body = bytearray(entry.file.read_bytes()[first : last + 1])
        for i in touched:
            self.lies[i] -= 1
            body[i * CHUNK + 7 - first] ^= 1
        self.line.sent_bytes += len(body)
        headers = {"Content-Range": f"bytes {first}-{last}/{entry.size}"}
        return web.Response(status=206, headers=headers, body=bytes(body))


async def fetch_from(lies: dict[int, int], folder: Path) -> Job:
    """One job; a wrong byte is never published."""
    weights = (make_repo(folder / "hub", SIZE) / WEIGHTS).read_bytes()
    cache = folder / "cache"
    async with (
        LyingHub(folder / "hub", lies) as hub,
        running(make_service(folder / "h", hub.endpoint, cache, profiles=PROFILES)) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS])
        job = await service.wait(job.id)
        there = service.on_disk(REPO)
    if job.state is JobState.DONE:
        assert there[WEIGHTS].read_bytes() == weights
    else:
        assert (there, list(cache.rglob("blobs/*"))) == ({}, [])
    return job


@SETTINGS
@given(st.sets(st.integers(0, CHUNKS - 1), min_size=1))
@example(set(range(CHUNKS)))
def test_chunks_that_were_wrong_once_on_arrival_come_again(chunks: set[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        job = asyncio.run(fetch_from(dict.fromkeys(chunks, 1), Path(name)))
    assert job.state is JobState.DONE
    assert job.chunks_corrupt == len(chunks)
    assert len(chunks) * (CHUNK - 1000) <= job.bytes_refetched <= SIZE


@SETTINGS
@given(st.dictionaries(st.integers(0, CHUNKS - 1), st.integers(1, 4), min_size=1))
@example(dict.fromkeys(range(CHUNKS), 4))
def test_however_often_a_path_lies_nothing_wrong_is_published(lies: dict[int, int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        job = asyncio.run(fetch_from(lies, Path(name)))
    if job.state is not JobState.DONE:
        assert job.error is not None
        assert job.error.kind == "download.digest_mismatch"
        assert max(lies.values()) > DOUBTS_MAX
    assert job.bytes_refetched <= DOUBTS_MAX * SIZE


async def damage_and_repair(folder: Path, offsets: set[int]) -> tuple[VerifyReport, VerifyReport]:
    """What verify says of a cached file with these bytes flipped, and what repair then did."""
    weights = (make_repo(folder / "hub", SIZE) / WEIGHTS).read_bytes()
    async with (
        DemoHub(folder / "hub") as hub,
        running(
            make_service(folder / "h", hub.endpoint, folder / "cache", profiles=PROFILES)
        ) as service,
    ):
        job, _ = await service.start(REPO, files=[WEIGHTS])
        await service.wait(job.id)
        blob = service.on_disk(REPO)[WEIGHTS].resolve()
        stat = blob.stat()
        with blob.open("r+b") as file:
            for offset in offsets:
                os.pwrite(file.fileno(), bytes([weights[offset] ^ 1]), offset)
        os.utime(blob, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        found = await service.verify(job.id)
        repaired = await service.verify(job.id, repair=True)
        assert service.get(job.id).state is JobState.DONE
        assert sha256(blob.read_bytes()).digest() == sha256(weights).digest()
    return found, repaired


@SETTINGS
@given(st.sets(st.integers(0, SIZE - 1), min_size=1, max_size=20))
def test_flipped_bytes_cost_their_chunks_and_no_more(offsets: set[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        found, repaired = asyncio.run(damage_and_repair(Path(name), offsets))
    bad = sorted({o // CHUNK for o in offsets})
    assert [f.bad_chunks for f in found.files] == [bad]
    assert repaired.ok
    assert repaired.repaired_bytes == sum(min(CHUNK, SIZE - i * CHUNK) for i in bad)
