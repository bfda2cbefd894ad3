"""The plan: every byte in exactly one chunk, nothing fetched that is there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshid.downloads import plan
from moshid.downloads.plan import ByteRange, Chunk

sizes = st.integers(0, 10_000)
chunk_sizes = st.integers(1, 3_000)


@settings(deadline=None)
@given(sizes, chunk_sizes)
def test_chunks_cover_the_file_once_and_in_order(size: int, chunk_bytes: int) -> None:
    chunks = plan.split(size, chunk_bytes)
    assert [c.index for c in chunks] == list(range(len(chunks)))
    at = 0
    for chunk in chunks:
        assert chunk.offset == at == chunk.index * chunk_bytes
        assert 0 < chunk.size <= chunk_bytes
        at += chunk.size
    assert at == size


@settings(deadline=None)
@given(sizes, st.integers(400, 3_000), st.data())
def test_what_is_left_and_what_is_done_make_the_whole(
    size: int, chunk_bytes: int, data: st.DataObject
) -> None:
    chunks = plan.split(size, chunk_bytes)
    for chunk in chunks:
        chunk.durable_bytes = data.draw(st.integers(0, chunk.size))
        chunk.done = chunk.durable_bytes == chunk.size
    left = plan.left(chunks)
    missing = sum(c.range_after(c.durable_bytes).size for c in left)
    assert missing + plan.bytes_done(chunks) == size
    assert all(not c.done for c in left)
    assert left == sorted(left, key=lambda c: c.index)


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 30), st.integers(0, 1 << 30))
def test_headers_name_the_last_byte(start: int, size: int, more: int) -> None:
    wanted = ByteRange(start, start + size)
    total = start + size + more
    first, last = wanted.header.removeprefix("bytes=").split("-")
    assert int(last) - int(first) + 1 == wanted.size == size
    assert wanted.content_range(total) == f"bytes {first}-{last}/{total}"


@pytest.mark.parametrize(("size", "chunk_bytes"), [(1, 0), (-1, 1), (1, -1)])
def test_impossible_plans_are_refused(size: int, chunk_bytes: int) -> None:
    with pytest.raises(ValueError, match="no plan"):
        plan.split(size, chunk_bytes)


def test_a_forgotten_chunk_has_nothing() -> None:
    chunk = Chunk(0, 0, 10, durable_bytes=10, digest=b"x", done=True, suspicion=2)
    chunk.forget()
    assert chunk == Chunk(0, 0, 10, suspicion=2)


@given(st.integers(1, 1 << 50), st.integers(1, 1 << 30))
def test_chunks_stay_countable_whatever_the_files_size(size: int, wanted_bytes: int) -> None:
    chunk_bytes = plan.chunk_bytes_for(size, wanted_bytes)
    assert -(-size // chunk_bytes) <= plan.CHUNKS_MAX
    assert chunk_bytes == wanted_bytes or size > plan.CHUNKS_MAX * wanted_bytes
