"""The profile turbo's rules: when hf-transfer is used, and what of its work can be seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moshid.downloads.plan import Chunk, split
from moshid.downloads.profiles import MIB, PROFILES
from moshid.downloads.turbo import landed_bytes, unsuited
from moshid.downloads.turbo_child import RANGE_BYTES

SIZE = 100 * MIB
TURBO = PROFILES["turbo"]


def test_a_whole_large_file_is_what_it_is_for() -> None:
    assert unsuited(TURBO, SIZE, split(SIZE, 16 * MIB), free=True) is None


@pytest.mark.parametrize(
    ("name", "size", "had", "durable_bytes", "free", "why"),
    [
        ("turbo", 10 * MIB, 0, 0, True, "small"),
        ("auto", SIZE, 0, 0, True, "small"),
        ("turbo", SIZE, 1, 0, True, "there already"),
        ("turbo", SIZE, 0, 1, True, "there already"),
        ("turbo", SIZE, 0, 0, False, "limit"),
    ],
)
def test_otherwise_the_ordinary_engine_fetches_at_once(
    name: str, size: int, had: int, durable_bytes: int, free: bool, why: str
) -> None:
    work = split(size, 16 * MIB)[had:]
    work[0].durable_bytes = durable_bytes
    told = unsuited(PROFILES[name], size, work, free=free)
    assert told is not None
    assert why in told


@pytest.mark.parametrize("chunk_bytes", [RANGE_BYTES, 4 * RANGE_BYTES, RANGE_BYTES + 1000])
def test_what_has_landed_shows_by_its_tail(tmp_path: Path, chunk_bytes: int) -> None:
    size = 2 * RANGE_BYTES + 5
    with (tmp_path / "f").open("w+b") as file:
        fd = file.fileno()
        os.truncate(fd, size)
        chunks = split(size, chunk_bytes)
        assert [landed_bytes(fd, c) for c in chunks] == [0] * len(chunks)
        os.pwrite(fd, b"\1" * RANGE_BYTES, 0)
        whole = Chunk(0, 0, size)
        assert landed_bytes(fd, whole) == RANGE_BYTES
        os.pwrite(fd, b"\1" * 5, 2 * RANGE_BYTES)
        assert landed_bytes(fd, whole) == RANGE_BYTES, "there is a hole"
        os.pwrite(fd, b"\1" * RANGE_BYTES, RANGE_BYTES)
        assert [landed_bytes(fd, c) for c in chunks] == [c.size for c in chunks]


def test_a_kill_costs_no_more_than_the_other_profiles_may_lose() -> None:
    assert RANGE_BYTES * TURBO.connections_max <= 64 * MIB
