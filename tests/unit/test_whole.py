"""The whole-file hash beside a fetch: what memory cannot vouch for, the disk has to."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from moshid.downloads.digests import chunk_hasher
from moshid.downloads.disk import Partial
from moshid.downloads.engine import Engine
from moshid.downloads.front import Piece
from moshid.downloads.job import Job, JobFile
from moshid.downloads.keeper import Keeper, Mark
from moshid.downloads.ledger import Blob
from moshid.downloads.meter import Meter
from moshid.downloads.plan import split
from moshid.downloads.profiles import PROFILES
from moshid.downloads.states import FileState
from moshid.downloads.tally import Tally
from moshid.downloads.trust import Trust
from moshid.downloads.whole import WholeHash, reach_bytes
from tests.fakes.bare_engine import bare_engine

pytestmark = pytest.mark.asyncio

SIZE, CHUNK = 10_000, 4000
RIGHT, WRONG = random.Random(1).randbytes(SIZE), random.Random(2).randbytes(SIZE)
ETAG = sha256(RIGHT).hexdigest()


@dataclass(slots=True)
class Fetch:
    """A file whose bytes the test brings."""

    engine: Engine
    partial: Partial
    trust: Trust
    hashing: WholeHash
    keeper: Keeper

    def land(self, start: int, stop: int, *, disk: bytes = RIGHT, memory: bytes = RIGHT) -> None:
        """Bytes land, and are held for the hash."""
        self.partial.write(start, [disk[start:stop]])
        buffer = self.hashing.front.buffer_for(start)
        assert buffer is not None
        buffer[: stop - start] = memory[start:stop]
        self.hashing.front.hold(start, Piece(buffer[: stop - start], buffer))

    async def end(self) -> tuple[str, list[FileState]]:
        """All chunks become durable; the whole's digest, and the states that were shown."""
        shown: list[FileState] = []
        for chunk in self.trust.chunks:
            content = RIGHT[chunk.range.start : chunk.range.stop]
            hasher = chunk_hasher(chunk.digest_kind)
            hasher.update(content)
            self.keeper.note(Mark(chunk, chunk.size, hasher.digest()))
        running = asyncio.create_task(self.hashing.run(self.keeper, shown.append))
        await self.keeper.flush()
        digest = await running
        self.hashing.close()
        return digest, shown


@asynccontextmanager
async def fetching(folder: Path, size: int = SIZE, chunk: int = CHUNK) -> AsyncIterator[Fetch]:
    """A fetch with nothing there yet."""
    partial = Partial.open(folder / "x.part", size)
    async with bare_engine(folder, Blob(ETAG, size, chunk, "boot", 1, 2)) as engine:
        meter = Meter(Job("j", "org/repo", "main"), Tally(folder / "tally"))
        files = [JobFile("f", size, ETAG)]
        trust = Trust(engine, meter, files, partial, split(size, chunk))
        hashing = WholeHash(engine, trust, 1)
        done = hashing.chunk_done
        yield Fetch(
            engine,
            partial,
            trust,
            hashing,
            Keeper(engine, ETAG, partial, max(chunk, 6 << 20), meter.counters, done),
        )
    partial.close()


async def test_from_memory_and_from_the_disk_it_is_one_digest(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.land(0, 3000)
        fetch.partial.write(3000, [RIGHT[3000:]])
        fetch.land(5000, 7000)
        digest, shown = await fetch.end()
        assert fetch.hashing.front.of_memory
        assert (digest, shown[-1]) == (ETAG, FileState.VERIFYING)


async def test_what_was_written_again_is_read_from_the_disk(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.land(0, SIZE)
        await fetch.engine.on_hash(fetch.hashing.front.advance, fetch.partial.fd)
        fetch.partial.write(0, [WRONG])
        fetch.hashing.front.wrote(0, SIZE)
        digest, _ = await fetch.end()
        assert digest == sha256(WRONG).hexdigest(), "though memory had held the right bytes"


async def test_a_wrong_digest_is_asked_of_the_disk_before_anybody_is_blamed(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.land(0, SIZE, memory=WRONG)
        assert (await fetch.end())[0] == ETAG


async def test_a_file_that_was_cut_off_is_not_taken_for_right(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.land(0, SIZE)
        os.ftruncate(fetch.partial.fd, SIZE // 2)
        assert (await fetch.end())[0] != ETAG


async def test_what_memory_holds_of_a_durable_chunk_is_not_read(tmp_path: Path) -> None:
    async with fetching(tmp_path) as fetch:
        fetch.partial.write(0, [RIGHT])
        fetch.land(1000, SIZE, disk=WRONG)
        assert (await fetch.end())[0] == ETAG


@pytest.mark.parametrize(
    ("profile", "holds"),
    [("auto", True), ("robust", True), ("parallel", False), ("verified", False)],
)
async def test_what_lands_is_held_where_most_of_it_is_near(profile: str, holds: bool) -> None:
    p = PROFILES[profile]
    chunks = split(1 << 30, p.chunk_bytes)
    assert (reach_bytes(chunks, p.connections_start) > 0) == holds
    assert reach_bytes([], 1) > 0, "of an empty file, all is near"
