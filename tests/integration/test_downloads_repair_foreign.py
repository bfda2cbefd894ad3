"""A file that another tool brought, and that is damaged: found, and mended with few bytes.

Only the digest of the whole is known, so every chunk is as suspect as any other: chunks are fetched
again, a few at a time, until one comes out otherwise.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from statistics import mean

import pytest
from huggingface_hub import hf_hub_download

from moshid.demo.hub import DemoHub
from moshid.downloads import plan
from moshid.downloads.states import JobState
from moshid.downloads.suspects import RESCUED, next_suspects
from tests.fakes.downloads import QUICK, make_service, running
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache
from tests.integration.test_downloads_repair import flip_byte

WEIGHTS = "model.safetensors"
CHUNK = QUICK["auto"].chunk_bytes
SIZE = 24 * CHUNK - 5


@pytest.mark.asyncio
@pytest.mark.parametrize(("bad", "most"), [(0, 4), (9, 16), (23, 24)])
async def test_one_flipped_byte_is_mended_in_place(tmp_path: Path, bad: int, most: int) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with DemoHub(tmp_path / "hub") as hub:
        got = Path(
            await asyncio.to_thread(
                hf_hub_download, REPO, WEIGHTS, endpoint=hub.endpoint, cache_dir=cache
            )
        )
        blob = got.resolve()
        kept = tmp_path / "kept"
        kept.hardlink_to(blob)
        flip_byte(blob, bad * CHUNK + 100)
        damaged = kept.read_bytes()
        hub.requests.clear()
        async with running(make_service(tmp_path / "home", hub.endpoint, cache)) as service:
            report = await service.verify(REPO, repair=True)
            assert report.ok
            (job,) = service.list()
        assert (job.state, job.chunks_corrupt) == (JobState.DONE, 1)
        assert report.repaired_bytes == job.bytes_fetched
        assert CHUNK - 5 <= job.bytes_fetched <= min(most * CHUNK, SIZE)
    assert got.is_symlink()
    assert got.resolve() == blob
    assert kept.read_bytes() == damaged, "a rename puts the right bytes there, nobody writes them"
    assert_in_cache(folder, cache, WEIGHTS)


@pytest.mark.parametrize("count", [24, 100, 964])
def test_on_average_far_less_than_the_whole_is_fetched_again(count: int) -> None:
    """15.4 GB in chunks of 16 MiB are 918."""
    fetched = []
    for bad in [*range(0, count, count // 24), count - 1]:
        chunks = plan.split(count * 10, 10)
        for chunk in chunks:
            chunk.suspicion = RESCUED
        tried: set[int] = set()
        while bad not in tried:
            batch = next_suspects(chunks, tried)
            assert tried.isdisjoint(c.index for c in batch)
            tried |= {c.index for c in batch}
        fetched.append(len(tried))
    assert max(fetched) == count
    assert mean(fetched) < 0.7 * count
