"""A sound file that is written behind: whoever writes is not held up, and is told of faults."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio.file_sink import FileSink, unwritable
from moshid.audio.frames import FRAME_SAMPLES
from moshid.audio.ring import Samples
from moshid.audio.write_behind import PIECES_MAX, WriteBehind
from moshid.errors import BadAudioFile
from tests.fakes.little_room import room_for

TIMEOUT_S = 60.0


class Disk:
    """Takes nothing before it ``goes``, and nothing from piece ``full_at`` on."""

    def __init__(self, full_at: int | None = None) -> None:
        self.goes = threading.Event()
        self.pieces: list[float] = []
        self.closed = 0
        self.tried = 0
        self._full_at = full_at

    def write(self, pcm: Samples) -> None:
        """One piece."""
        assert self.goes.wait(TIMEOUT_S)
        self.tried += 1
        if len(self.pieces) == self._full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.pieces.append(float(pcm[0]))

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def frame(n: int) -> Samples:
    return np.full(FRAME_SAMPLES, n, dtype=np.float32)


def write_all(writer: WriteBehind, count: int) -> None:
    for n in range(count):
        writer.write(frame(n))


def test_a_disk_that_stands_still_for_a_minute_holds_nobody_up() -> None:
    disk = Disk()
    writer = WriteBehind(disk)
    shared = frame(0)
    for n in range(PIECES_MAX):
        shared[:] = n
        writer.write(shared)
    assert disk.pieces == []
    disk.goes.set()
    writer.close()
    writer.close()
    assert disk.pieces == [float(n) for n in range(PIECES_MAX)]
    assert disk.closed == 1


def test_what_waits_is_bounded() -> None:
    disk = Disk()
    writer = WriteBehind(disk, 4)
    writing = threading.Thread(target=lambda: write_all(writer, 50))
    writing.start()
    writing.join(0.2)
    assert writing.is_alive(), "it waits for the disk"
    disk.goes.set()
    writing.join(TIMEOUT_S)
    writer.close()
    assert disk.pieces == [float(n) for n in range(50)]


def test_a_full_disk_is_told_once_with_a_later_piece() -> None:
    disk = Disk(full_at=2)
    writer = WriteBehind(disk, 4)
    disk.goes.set()
    with pytest.raises(OSError, match="No space"):
        write_all(writer, 50)
    writer.close()
    assert (disk.tried, disk.closed) == (3, 1), "nothing is written after it, and it is closed"


def test_a_full_disk_is_told_at_the_end_at_the_latest() -> None:
    disk = Disk(full_at=2)
    writer = WriteBehind(disk)
    write_all(writer, 3)
    disk.goes.set()
    with pytest.raises(OSError, match="No space"):
        writer.close()
    writer.close()


def test_a_disk_that_hangs_at_the_end_is_left_and_told_once() -> None:
    disk = Disk()
    writer = WriteBehind(disk, 4)
    write_all(writer, 4)
    with pytest.raises(OSError, match="the disk stands still"):
        writer.close(patience_s=0.01)
    writer.close(patience_s=0.01)
    disk.goes.set()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus"])
def test_a_file_is_the_same_written_behind(tmp_path: Path, suffix: str) -> None:
    files = []
    for may_wait in (False, True):
        path = tmp_path / f"{may_wait}{suffix}"
        sink = FileSink(str(path), may_wait=may_wait)
        sink.start(0)
        for n in range(40):
            sink.play(frame(n % 2), n * FRAME_SAMPLES, 0)
        sink.close()
        files.append(soundfile.read(path)[0])
    assert len(files[0]) == 41 * FRAME_SAMPLES
    np.testing.assert_array_equal(*files)


def test_a_disk_that_fills_up_behind_is_told(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "out.wav"), may_wait=False)

    def play_all() -> None:
        for n in range(10):
            sink.play(frame(n), n * FRAME_SAMPLES, 0)
        sink.close()

    with room_for(20_000), pytest.raises(BadAudioFile, match="written: File too large"):
        play_all()
    sink.close()


def test_a_disk_that_hangs_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = str(tmp_path / "out.wav")
    error = unwritable(path, OSError(errno.ETIMEDOUT, "the disk stands still"))
    assert error.message == f"{path} cannot be written: the disk stands still"
    assert "another disk" in error.hint
