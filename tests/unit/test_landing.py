"""Where bytes land: digests, and chunks that two connections share."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.downloads.buffers import BLOCK_BYTES, BUFFER_BYTES
from moshid.downloads.disk import Partial
from moshid.downloads.landing import HOP_BYTES, ChunkLanding, Landing, Tail
from moshid.downloads.plan import Chunk, split
from moshid.downloads.siphon import in_blocks

MIB = 1 << 20
CONTENT = random.Random(0).randbytes(10 * MIB)
TAIL_BYTES = 6 * MIB
CHUNK = Chunk(1, 2 * MIB, 8 * MIB)


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[Partial]:
    """A partial file for the content."""
    opened = Partial.open(tmp_path / "f.part", len(CONTENT))
    yield opened
    opened.close()


def land(landing: Landing, partial: Partial, count_bytes: int) -> None:
    """The next bytes come."""
    landing.land(partial, landing.clip([CONTENT[landing.at : landing.at + count_bytes]]))


def test_a_shared_chunk_has_the_digest_of_an_undivided_one(partial: Partial) -> None:
    landing = ChunkLanding.begin(replace(CHUNK))
    land(landing, partial, MIB)
    tail = landing.divide(TAIL_BYTES)
    assert tail is not None
    assert landing.divide(TAIL_BYTES) is None, "one tail at a time"
    land(tail, partial, len(CONTENT))
    land(landing, partial, len(CONTENT))
    assert (landing.left_bytes, tail.left_bytes, landing.complete) == (0, 0, False)
    landing.join(partial.fd)
    assert landing.complete
    assert landing.mark().digest == sha256(CONTENT[2 * MIB :]).digest()


def test_what_a_tail_never_brought_is_the_chunks_own_again(partial: Partial) -> None:
    landing = ChunkLanding.begin(replace(CHUNK))
    tail = landing.divide(TAIL_BYTES)
    assert tail is not None
    land(tail, partial, 1000)
    land(landing, partial, len(CONTENT))
    landing.join(partial.fd)
    assert landing.left_bytes == tail.stop - tail.at
    land(landing, partial, len(CONTENT))
    assert landing.complete
    assert landing.mark().digest == sha256(CONTENT[2 * MIB :]).digest()


@given(st.integers(0, 64 * MIB), st.integers(0, 64 * MIB))
def test_a_tail_keeps_clear_of_what_is_just_coming_in(size: int, have_bytes: int) -> None:
    chunk = (split(size, 64 * MIB) or [Chunk(0, 0, 0)])[0]
    landing = ChunkLanding.begin(chunk)
    landing.at = min(have_bytes, size)
    tail = landing.divide(TAIL_BYTES)
    if tail is None:
        assert landing.stop == size
    else:
        assert landing.left_bytes > HOP_BYTES
        assert 0 < tail.left_bytes <= TAIL_BYTES
        assert (landing.stop, tail.stop) == (tail.at, size)


@given(st.integers(0, 4 * MIB), st.integers(0, 8 * MIB))
def test_a_tail_keeps_clear_of_what_a_thread_has_claimed(at: int, most_bytes: int) -> None:
    landing = ChunkLanding.begin(replace(CHUNK))
    landing.at += at
    claimed = landing.at + landing.claim(most_bytes)
    tail = landing.divide(TAIL_BYTES)
    assert claimed <= landing.stop
    if tail is not None:
        assert tail.at - claimed > HOP_BYTES


def test_a_thread_that_lands_step_by_step_ends_where_the_tail_begins(partial: Partial) -> None:
    """Divided at any moment, by another thread."""
    for round_ in range(50):
        landing = ChunkLanding.begin(replace(CHUNK))
        tails: list[Tail] = []
        begun = threading.Event()

        def bring(landing: ChunkLanding = landing, begun: threading.Event = begun) -> None:
            while step := landing.claim(MIB // 8):
                land(landing, partial, step)
                begun.set()

        thread = threading.Thread(target=bring)
        thread.start()
        begun.wait()
        while thread.is_alive() and not tails:
            if (tail := landing.divide(round_ * MIB // 8 + 1)) is not None:
                tails.append(tail)
        thread.join()
        assert landing.at == (tails[0].at if tails else CHUNK.range.stop)


def test_nothing_lands_beyond_its_stretch() -> None:
    landing = Landing(10, 15)
    assert [bytes(v) for v in landing.clip([b"abc", b"def", b"ghi"])] == [b"abc", b"de"]


@given(st.integers(0, 1 << 40), st.integers(1, 8 * MIB), st.integers(1, 4 * MIB))
def test_a_step_lies_in_its_buffer_as_in_the_file(at: int, left: int, most_bytes: int) -> None:
    buffer = memoryview(bytearray(range(256)) * (BUFFER_BYTES // 256))
    view = in_blocks(buffer, Landing(at, at + left), min(most_bytes, left))
    assert view[0] == at % BLOCK_BYTES % 256
    assert 0 < len(view) <= min(most_bytes, left)
    whole = (at + len(view)) % BLOCK_BYTES == 0
    assert whole or len(view) == left or most_bytes <= BLOCK_BYTES
