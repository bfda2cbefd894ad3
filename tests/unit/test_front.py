"""The whole-file hash behind what lands: from memory near the front, from the disk elsewhere."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshid.downloads.buffers import BUFFER_BYTES, Buffers
from moshid.downloads.front import LINGER_S, Front, Piece
from moshid.downloads.plan import Chunk, split

CHUNK_BYTES = 1000
SIZE = 7_500
RNG = random.Random(0)
RIGHT, OTHER = RNG.randbytes(SIZE), RNG.randbytes(SIZE)
PIECES_MAX = 4


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """An open file of the size."""
    opened = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(opened, SIZE)
    yield opened
    os.close(opened)


@dataclass(slots=True)
class Landed:
    """A file as it comes in, and the hash behind it."""

    fd: int
    woken: int = 0
    buffers: Buffers = field(default_factory=lambda: Buffers(PIECES_MAX * BUFFER_BYTES))
    chunks: list[Chunk] = field(default_factory=lambda: split(SIZE, CHUNK_BYTES))
    front: Front = field(init=False)

    def __post_init__(self) -> None:
        os.pwrite(self.fd, bytes(SIZE), 0)
        self.front = self.make(linger_s=0.0)

    def make(self, ready: Callable[[], None] | None = None, linger_s: float = LINGER_S) -> Front:
        """A hash that nothing was fed to."""
        reach_bytes = PIECES_MAX * BUFFER_BYTES
        return Front(
            *(self.chunks, sha256(), self.buffers, ready or self.wake),
            reach_bytes=reach_bytes,
            linger_s=linger_s,
        )

    def wake(self) -> None:
        """There is something to hash."""
        self.woken += 1

    def write(self, start: int, stop: int, content: bytes = RIGHT, *, hold: bool) -> bool:
        """Bytes land; held in memory, if there is a buffer for them. Whether they were."""
        buffer = self.front.buffer_for(start) if hold else None
        os.pwrite(self.fd, content[start:stop], start)
        if buffer is None:
            self.front.wrote(start, stop)
            return False
        view = buffer[: stop - start]
        view[:] = content[start:stop]
        self.front.hold(start, Piece(view, buffer))
        return True

    def finish(self, index: int) -> None:
        """A chunk is durable."""
        self.chunks[index].done = True
        self.front.chunk_done()

    def content(self) -> bytes:
        """What is on disk."""
        return os.pread(self.fd, SIZE, 0)

    def all_given_back(self) -> bool:
        """No buffer is in use."""
        taken = [self.buffers.take() for _ in range(PIECES_MAX)]
        for buffer in taken:
            if buffer is not None:
                self.buffers.give(buffer)
        return None not in taken and self.buffers.take() is not None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, SIZE - 1), st.integers(1, 700), st.booleans()),
        st.tuples(st.just("finish"), st.integers(0, 7)),
        st.tuples(st.just("advance")),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(steps=steps, seed=st.integers(0, 99))
def test_the_digest_is_the_disks_or_says_that_it_may_not_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]], seed: int
) -> None:
    """Whatever lands in whatever order, twice or not, with right bytes or wrong ones."""
    rng = random.Random(seed)
    opened = os.open(tmp_path_factory.mktemp("f") / "f", os.O_RDWR | os.O_CREAT)
    try:
        landed = Landed(opened)
        for step in steps:
            match step:
                case ("write", int(start), int(size), bool(hold)):
                    if not landed.chunks[start // CHUNK_BYTES].done:
                        end = (start // CHUNK_BYTES + 1) * CHUNK_BYTES
                        content = OTHER if rng.random() < 0.2 else RIGHT
                        landed.write(start, min(start + size, end, SIZE), content, hold=hold)
                case ("finish", int(index)):
                    landed.finish(index)
                case _:
                    landed.front.advance(opened)
        for index in range(len(landed.chunks)):
            landed.finish(index)
        while landed.front.advance(opened):
            pass
        assert landed.front.complete
        right = landed.front.hexdigest() == sha256(landed.content()).hexdigest()
        assert right or landed.front.is_stale
        landed.front.close()
        assert landed.all_given_back()
    finally:
        os.close(opened)


def test_what_is_held_needs_no_disk(fd: int) -> None:
    landed = Landed(fd)
    for start in range(0, SIZE, 500):
        assert landed.write(start, start + 500, hold=True)
        landed.front.advance(fd)
    os.pwrite(fd, OTHER, 0)  # nobody reads it
    assert landed.front.complete
    assert landed.front.of_memory
    assert not landed.front.is_stale
    assert landed.front.hexdigest() == sha256(RIGHT).hexdigest()


def test_the_files_first_bytes_do_not_wait_for_their_chunk(fd: int) -> None:
    landed = Landed(fd)
    os.pwrite(fd, RIGHT[:700], 0)
    landed.front.landed(0, 700, [memoryview(RIGHT)[:300], memoryview(RIGHT)[300:700]])
    landed.write(700, 1000, hold=True)
    while landed.front.advance(fd):
        pass
    assert landed.front.at == 1000
    assert landed.front.hexdigest() == sha256(RIGHT[:1000]).hexdigest()
    assert landed.all_given_back()


def test_other_small_pieces_are_read_when_their_chunk_is_durable(fd: int) -> None:
    landed = Landed(fd)
    landed.front.landed(1000, 1700, [memoryview(RIGHT)[1000:1700]])
    landed.write(0, 1000, hold=True)
    while landed.front.advance(fd):
        pass
    assert landed.front.at == 1000


def test_of_first_bytes_that_the_disk_did_not_all_take_none_is_hashed(fd: int) -> None:
    landed = Landed(fd)
    landed.front.landed(0, 200, [memoryview(RIGHT)[:300]])
    assert not landed.front.advance(fd)
    assert landed.front.at == 0


def test_what_was_hashed_and_is_written_again_makes_it_stale(fd: int) -> None:
    landed = Landed(fd)
    landed.write(0, 500, OTHER, hold=True)
    landed.front.advance(fd)
    assert not landed.front.is_stale
    landed.write(499, 600, hold=False)
    assert landed.front.is_stale


def test_what_waits_and_is_written_again_makes_it_stale(fd: int) -> None:
    landed = Landed(fd)
    landed.write(2000, 2500, OTHER, hold=True)
    landed.write(2500, 2600, hold=True)
    assert not landed.front.is_stale
    landed.write(2400, 2450, hold=False)
    assert landed.front.is_stale
    landed.front.close()
    assert landed.all_given_back()


def test_what_lies_far_ahead_gets_no_buffer(fd: int) -> None:
    front = Landed(fd).front
    near = front.buffer_for(PIECES_MAX * BUFFER_BYTES - 1)
    assert near is not None
    front.drop(near)
    assert front.buffer_for(PIECES_MAX * BUFFER_BYTES) is None


def test_where_nothing_is_near_nothing_is_held(fd: int) -> None:
    landed = Landed(fd)
    front = Front(landed.chunks, sha256(), landed.buffers, landed.wake, reach_bytes=0)
    assert front.buffer_for(0) is None


def test_it_wakes_once_for_many_pieces_and_again_after_a_look(fd: int) -> None:
    landed = Landed(fd)
    landed.write(1000, 1500, hold=True)
    landed.write(1500, 2000, hold=True)
    assert landed.woken == 1
    assert not landed.front.advance(fd)
    landed.finish(0)
    assert landed.woken == 2


def test_threads_that_land_beside_one_that_hashes(fd: int) -> None:
    """Four bring pieces, held or not, out of order; one hashes all the while."""
    landed = Landed(fd)
    ready = threading.Event()
    landed.front = landed.make(ready.set)

    def bring(first: int) -> None:
        for index in range(first, len(landed.chunks), 4):
            chunk = landed.chunks[index].range
            for start in range(chunk.start, chunk.stop, 100):
                landed.write(start, start + 100, hold=index % 3 > 0)
            landed.finish(index)

    threads = [threading.Thread(target=bring, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while not landed.front.complete:
        if not landed.front.advance(fd) and not landed.front.complete:
            ready.wait()
            ready.clear()
    for thread in threads:
        thread.join()
    assert landed.front.hexdigest() == sha256(RIGHT).hexdigest()
    assert not landed.front.is_stale
    assert landed.all_given_back()


class SlowHasher:
    """SHA-256 that takes its first bytes only when it may."""

    def __init__(self) -> None:
        self._sha256 = sha256()
        self.at_work = threading.Event()
        self.may_go_on = threading.Event()
        self.hexdigest = self._sha256.hexdigest
        self.digest = self._sha256.digest
        self.copy = self._sha256.copy

    def update(self, data: bytes | memoryview, /) -> None:
        """Take more bytes."""
        self.at_work.set()
        self.may_go_on.wait()
        self._sha256.update(data)


class Asked(Buffers):
    """Buffers that tell when all are in use and one is asked for."""

    def __init__(self) -> None:
        super().__init__(PIECES_MAX * BUFFER_BYTES)
        self.short = threading.Event()

    def take(self, wait_s: float = 0.0) -> memoryview | None:
        """A buffer."""
        if wait_s:
            self.short.set()
        return super().take(wait_s)


def test_who_is_ahead_waits_for_a_hash_at_work(fd: int) -> None:
    """All buffers hold what is next; the next piece gets one when the hash is done with its own."""
    buffers, hasher = Asked(), SlowHasher()
    landed = Landed(fd, buffers=buffers)
    landed.front = Front(landed.chunks, hasher, buffers, landed.wake, linger_s=60.0)
    for start in range(0, 2000, 500):
        assert landed.write(start, start + 500, hold=True)
    hashing = threading.Thread(target=landed.front.advance, args=(fd,))
    hashing.start()
    hasher.at_work.wait()
    got: list[bool] = []
    ahead = threading.Thread(target=lambda: got.append(landed.write(2000, SIZE, hold=True)))
    ahead.start()
    buffers.short.wait()
    hasher.may_go_on.set()
    ahead.join()
    hashing.join()
    assert got == [True]
    assert landed.front.complete
    assert landed.front.hexdigest() == sha256(RIGHT).hexdigest()


def test_nobody_waits_for_a_hash_that_has_left_its_thread(fd: int) -> None:
    """It did all there was, up to the most that it may do at once."""
    landed = Landed(fd)
    landed.front = Front(
        *(landed.chunks, sha256(), landed.buffers, landed.wake),
        reach_bytes=CHUNK_BYTES,
        linger_s=60.0,
        slice_bytes=CHUNK_BYTES,
    )
    landed.write(0, CHUNK_BYTES, hold=False)
    landed.finish(0)
    assert not landed.front.advance(fd)
    assert landed.front.buffer_for(SIZE - 1) is None


def test_buffers_are_bounded_and_handed_on() -> None:
    buffers = Buffers(2 * BUFFER_BYTES)
    first, second = buffers.take(), buffers.take()
    assert first is not None
    assert second is not None
    assert buffers.take() is None
    buffers.give(first)
    assert buffers.take() is first
