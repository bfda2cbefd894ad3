"""Partial files and their durability: locks, room, the order write → sync → ledger."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshid.downloads.buffers import BLOCK_BYTES, new_buffer
from moshid.downloads.disk import DiskPool, Partial
from moshid.downloads.keeper import Keeper, Mark
from moshid.downloads.ledger import Blob, Counters, Ledger
from moshid.downloads.plan import Chunk
from moshid.downloads.volume import MountedVolume, disk_error, mount_point_of, nearest
from moshid.errors import DiskFull, DownloadError, PartialLocked, VolumeMissing
from tests.fakes.bare_engine import bare_engine

ETAG = "e" * 64


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[Partial]:
    """An open partial file of 1,000 bytes."""
    with closing(Partial.open(tmp_path / "p" / "x.part", 1000)) as opened:
        yield opened


def test_a_partial_has_its_room_from_the_start(partial: Partial) -> None:
    assert partial.created
    assert partial.path.stat().st_size == 1000
    assert partial.path.stat().st_blocks > 0


def test_a_partial_is_locked(partial: Partial) -> None:
    with pytest.raises(PartialLocked):
        Partial.open(partial.path, 1000)


BLOCKS = 64


@settings(deadline=None)
@given(offset=st.integers(0, 3 * BLOCK_BYTES), size=st.integers(0, 20 * BLOCK_BYTES))
def test_past_the_page_cache_the_same_bytes_land(
    tmp_path_factory: pytest.TempPathFactory, offset: int, size: int
) -> None:
    whole = random.Random(size).randbytes(size)
    buffer = new_buffer()
    view = buffer[offset % BLOCK_BYTES :][:size]
    view[:] = whole
    path = tmp_path_factory.mktemp("p") / "x.part"
    with closing(Partial.open(path, BLOCKS * BLOCK_BYTES)) as opened:
        assert opened.write_through(offset, view) == size
        assert os.pread(opened.fd, size, offset) == whole
    assert path.read_bytes().strip(b"\0") == whole.strip(b"\0")


@pytest.mark.skipif(sys.platform != "linux", reason="no O_DIRECT, and no way to see the cache")
def test_whole_blocks_do_leave_the_page_cache_alone(tmp_path: Path) -> None:
    command = ["stat", "-f", "-c", "%T", str(tmp_path)]
    kind = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    with closing(Partial.open(tmp_path / "x.part", BLOCKS * BLOCK_BYTES)) as opened:
        view = new_buffer()[BLOCK_BYTES // 2 :]
        opened.write_through(BLOCK_BYTES // 2, view[: 8 * BLOCK_BYTES])
        assert is_in_memory(opened.fd, 0), "the first half block is no whole one"
        all_is_memory = kind in ("tmpfs", "ramfs") or not opened.skips_cache
        assert is_in_memory(opened.fd, 2 * BLOCK_BYTES) == all_is_memory


def test_a_close_that_fails_still_unlocks(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    opened = Partial.open(path, 10)
    spare = os.open(path, os.O_RDONLY)
    opened._direct_fd = spare
    os.close(spare)
    with pytest.raises(OSError, match="Bad file descriptor"):
        opened.close()
    Partial.open(path, 10).close()


def is_in_memory(fd: int, at: int) -> bool:
    """Whether a block of a file is in the page cache; a file system without one is memory.
    Elsewhere than on Linux nothing goes past it."""
    if sys.platform != "linux":
        return True
    try:
        return os.preadv(fd, [bytearray(BLOCK_BYTES)], at, os.RWF_NOWAIT) == BLOCK_BYTES
    except OSError as e:
        return e.errno == errno.EOPNOTSUPP


def test_where_blocks_do_not_fit_the_page_cache_takes_them(tmp_path: Path) -> None:
    """A file system may refuse what this one takes: here, memory that begins in mid-block."""
    content = random.Random(0).randbytes(9 * BLOCK_BYTES)
    buffer = new_buffer()
    view = buffer[1 : 1 + len(content)]
    view[:] = content
    with closing(Partial.open(tmp_path / "x.part", BLOCKS * BLOCK_BYTES)) as opened:
        assert opened.write_through(0, view) == len(content)
        assert os.pread(opened.fd, len(content), 0) == content


def test_a_partial_is_found_again_with_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.part"
    with closing(Partial.open(path, 10)) as first:
        first.write(3, [b"ab", b"", b"c"])
        identity = first.identity()
    with closing(Partial.open(path, 10)) as again:
        assert not again.created
        assert again.identity() == identity
    assert path.read_bytes() == b"\0\0\0abc\0\0\0\0"
    with closing(Partial.open(path, 12)) as other:
        assert other.created, "a file of another size holds nothing that a ledger knows"
    Partial.open(path, 12).delete()
    assert not path.exists()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=5), max_size=700))
def test_buffers_are_written_one_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, buffers: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("w") / "x.part"
    whole = b"".join(buffers)
    with closing(Partial.open(path, len(whole) + 5)) as partial:
        assert partial.write(5, buffers) == len(whole)
    assert path.read_bytes() == b"\0" * 5 + whole


@pytest.mark.asyncio
async def test_a_cancelled_caller_waits_for_its_thread() -> None:
    pool = DiskPool(1)
    begun, go, ended = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        ended.set()

    task = asyncio.create_task(pool.run(work))
    await begun.wait()
    task.cancel()
    task.cancel()
    loop.call_later(0.01, go.set)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    pool.close()


@pytest.mark.asyncio
async def test_a_thread_that_the_system_refuses_is_not_missed() -> None:
    pool, go, done = DiskPool(3), threading.Event(), list[int]()
    threading.stack_size(1 << 50)
    try:
        with pytest.raises(RuntimeError):
            threading.Thread(target=int).start()
        works = [asyncio.create_task(pool.run(work)) for work in (go.wait, lambda: done.append(1))]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*works)
    finally:
        threading.stack_size(0)
    assert done == [1]
    pool.close()


class Recording(Partial):
    """A partial file that notes when it is synced, and may fail to."""

    steps: list[str]
    fail = False

    def sync(self) -> bool:
        self.steps.append("sync")
        if self.fail:
            raise OSError(28, "No space left on device")
        return super().sync()


@pytest.mark.asyncio
async def test_the_ledger_never_says_more_than_the_disk(tmp_path: Path) -> None:
    """Sync comes before commit; after a failed sync nobody knows what is lost, and a later one that
    succeeds does not tell: the bytes come again, for another keeper."""
    opened = Partial.open(tmp_path / "x.part", 1000)
    partial = Recording(opened.path, opened.fd, 1000, created=True)
    partial.steps = []
    async with bare_engine(tmp_path, Blob(ETAG, 1000, 500, "boot", 1, 2)) as engine:
        ledger = engine.ledger
        chunk, done = Chunk(0, 0, 500), list[Chunk]()
        counters = Counters("j", 0, 0, 0, 0)
        keeper = Keeper(engine, ETAG, partial, 100, lambda: counters, done.append)
        keeper.note(Mark(chunk, 200, b"1" * 32))
        assert chunk.durable_bytes == 0
        partial.fail = True
        with pytest.raises(DiskFull):
            await keeper.flush()
        assert (await ledger.call(Ledger.chunks, ETAG))[0].durable_bytes == 0
        assert (chunk.durable_bytes, partial.steps) == (0, ["sync"])
        partial.fail = False
        keeper.note(Mark(chunk, 300, b"1" * 32))
        await keeper.flush()
        assert (await ledger.call(Ledger.chunks, ETAG))[0].durable_bytes == 0
        keeper = Keeper(engine, ETAG, partial, 100, lambda: counters, done.append)
        keeper.note(Mark(chunk, 200, b"1" * 32))
        await keeper.flush()
        assert (await ledger.call(Ledger.chunks, ETAG))[0].durable_bytes == 200
        assert (chunk.durable_bytes, chunk.done, done) == (200, False, [])
        keeper.note(Mark(chunk, 500, b"2" * 32))
        rounds = asyncio.create_task(keeper.run())
        await keeper.done(chunk)
        assert chunk.digest == b"2" * 32
        assert done == [chunk]
        rounds.cancel()
    opened.close()


def test_disk_errors_have_kinds(tmp_path: Path) -> None:
    there = MountedVolume(tmp_path, mount_point_of(tmp_path))
    gone = MountedVolume(tmp_path / "none", tmp_path)
    assert there.present()
    assert there.free_bytes() > 0
    assert not gone.present()
    assert type(disk_error(OSError(28, "full"), there)) is DiskFull
    assert type(disk_error(OSError(2, "gone"), gone)) is VolumeMissing
    assert type(disk_error(OSError(13, "denied"), there)) is DownloadError
    assert "FAT" in disk_error(OSError(errno.EFBIG, "large"), there).hint
    assert "locks" in disk_error(OSError(errno.ENOLCK, "none"), there).hint
    assert "connection" in disk_error(OSError(errno.EIO, "broken"), there).hint
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert mount_point_of(Path("/")) == Path("/")
