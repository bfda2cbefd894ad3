"""SIGKILL in the middle, again and again: the job goes on, and little comes twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_128

from moshid.demo.hub import DemoHub
from tests.fakes.downloads import QUICK
from tests.fakes.repos import make_repo
from tests.integration.test_downloads import assert_in_cache

pytestmark = pytest.mark.asyncio

SIZE = 60_000_000
RATE_BPS = 20_000_000
WEIGHTS = "model.safetensors"
SMALL_FILES_BYTES = 4_000


async def run_child(
    tmp_path: Path, endpoint: str, chunk_bytes: int, kill_after_bytes: int | None
) -> dict[str, Any]:
    """Run the service in a process of its own, and kill it when it shows so many bytes; returns
    the last job picture it printed."""
    arguments = [tmp_path / "home", endpoint, tmp_path / "cache", chunk_bytes]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fakes.download_child",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    job: dict[str, Any] = {}
    async for line in process.stdout:
        job = json.loads(line)
        if kill_after_bytes is not None and job["bytes_done"] >= kill_after_bytes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            break
    await process.wait()
    return job


def ledger_chunks(ledger: Path, etag: str) -> Iterator[tuple[int, int, bytes]]:
    """What the ledger of a dead process claims: (chunk index, durable bytes, their SHA-256)."""
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        sql = "SELECT idx, durable_bytes, digest FROM chunks WHERE etag = ?"
        yield from db.execute(sql, (etag,)).fetchall()


def assert_ledger_holds(tmp_path: Path, etag: str, chunk_bytes: int) -> int:
    """Every claim of the ledger is true of the disk; returns the bytes claimed."""
    partial = tmp_path / "cache" / ".locks" / "moshid" / f"{etag}.part"
    claimed_bytes = 0
    fd = os.open(partial, os.O_RDONLY)
    try:
        for index, durable, digest in ledger_chunks(tmp_path / "home" / "ledger.db", etag):
            found = os.pread(fd, durable, index * chunk_bytes)
            assert xxh3_128(found).digest() == digest
            claimed_bytes += durable
    finally:
        os.close(fd)
    return claimed_bytes


@pytest.mark.parametrize("chunk_bytes", [1 << 20, 50_000_000])
async def test_killed_three_times_it_goes_on_and_refetches_little(
    tmp_path: Path, chunk_bytes: int
) -> None:
    folder = make_repo(tmp_path / "hub", SIZE)
    etag = sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    lost_bytes = 0
    async with DemoHub(tmp_path / "hub", rate_bps=RATE_BPS) as hub:
        for kill_at in (15_000_000, 30_000_000, 45_000_000):
            job = await run_child(tmp_path, hub.endpoint, chunk_bytes, kill_at)
            assert job["state"] == "downloading"
            claimed_bytes = assert_ledger_holds(tmp_path, etag, chunk_bytes)
            auto = QUICK["auto"]
            at_risk_bytes = (auto.risk_bytes + auto.hop_bytes) * job["connections"]
            lost_bytes += max(0, job["bytes_done"] - claimed_bytes - SMALL_FILES_BYTES)
            assert job["bytes_done"] - claimed_bytes <= at_risk_bytes + 8 * (1 << 20)
        last = await run_child(tmp_path, hub.endpoint, chunk_bytes, None)
    again_bytes = hub.line.sent_bytes - last["bytes_total"]
    assert (last["state"], last["id"]) == ("done", job["id"])
    assert lost_bytes <= last["bytes_refetched"] <= again_bytes, "it owns up to what it lost"
    assert last["bytes_refetched"] < 3 * 8 * (1 << 20), (
        "8 MiB a kill at most, at this rate far less"
    )
    kill_bytes = auto.connections_start * 8 * (1 << 20)
    assert again_bytes < 3 * kill_bytes, "what was in the sockets comes again, too"
    assert_in_cache(folder, tmp_path / "cache", WEIGHTS, "config.json")
