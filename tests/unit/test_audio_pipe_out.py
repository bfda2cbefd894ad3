"""Raw PCM out through a FIFO: what its reader gets, and when."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio import fifo
from moshid.audio.devices import Source
from moshid.audio.fifo import FRAME_BYTES
from moshid.audio.files import FileSource
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.pipe_sink import (
    PATIENCE_SAMPLES,
    WAITING_BYTES_MAX,
    HeldSource,
    PipeSink,
    held_by,
)
from moshid.audio.ring import Samples
from moshid.errors import BadAudioFile
from tests.fakes.pipes import Pipe, piping

MS = 1_000_000


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    with piping(tmp_path / "p") as pipe:
        yield pipe


def piped(pipe: Pipe, folder: Path, frames: int, *, fast: bool = False) -> tuple[Source, PipeSink]:
    """A file of so many frames at one level, and the pipe that its answers go to; begun."""
    path = folder / "a.wav"
    soundfile.write(path, np.full(frames * FRAME_SAMPLES, 0.5), SAMPLE_RATE)
    sink = PipeSink(pipe.path, fast=fast)
    file = FileSource(str(path), fast=fast, tail_frames=0, seconds=None)
    source = held_by(file, sink)
    source.start(0)
    return source, sink


def test_answers_stand_on_the_time_line(pipe: Pipe) -> None:
    sink = PipeSink(pipe.path, fast=True)
    sink.play(np.full(FRAME_SAMPLES, 0.25, np.float32), FRAME_SAMPLES, 0)
    sink.close()
    sink.close()
    found = pipe.read()
    assert len(found) == 3 * FRAME_SAMPLES
    assert not found[: 2 * FRAME_SAMPLES].any()
    assert set(found[2 * FRAME_SAMPLES :]) == {8191.0}


def test_without_a_reader_there_is_no_talk(pipe: Pipe) -> None:
    pipe.hang_up()
    with pytest.raises(BadAudioFile, match="nobody reads"):
        PipeSink(pipe.path, fast=False)


def test_a_reader_that_has_gone_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    reader = os.open(tmp_path / "p", os.O_RDONLY | os.O_NONBLOCK)
    sink = PipeSink(str(tmp_path / "p"), fast=True)
    os.close(reader)
    with pytest.raises(BadAudioFile, match="any more"):
        sink.play(np.ones(FRAME_SAMPLES, np.float32), 0, 0)
    sink.close()


def test_a_reader_that_stops_loses_answers_and_then_has_no_lag_of_ours(pipe: Pipe) -> None:
    sink = PipeSink(pipe.path, fast=False)
    pcm = np.full(FRAME_SAMPLES, 0.5, np.float32)
    for index in range(40):
        position = index * FRAME_SAMPLES
        if not sink.too_late(position, 0):
            sink.play(pcm, position, 0)
    played = 40 - sink.late_frames
    assert sink.late_frames > 20
    assert played * FRAME_BYTES <= fifo.PIPE_BYTES + WAITING_BYTES_MAX + 3 * FRAME_BYTES
    taken = len(pipe.read())
    assert not sink.too_late(40 * FRAME_SAMPLES, 0)
    sink.play(pcm, 40 * FRAME_SAMPLES, 0)
    while sink.pending_s():
        taken += len(pipe.read())
    sink.close()
    taken += len(pipe.read())
    assert taken == (played + 1 + 1) * FRAME_SAMPLES, "what was lost leaves no silence behind"


class Reader:
    """Takes 80 ms of sound a frame, as a program that plays it does."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.heard: list[Samples] = []

    def take(self) -> None:
        """What there is of the next frame."""
        with suppress(BlockingIOError):
            data = os.read(self._pipe.fd, FRAME_BYTES)
            self.heard.append(np.frombuffer(data, "<i2").astype(np.float32))


def test_after_a_pause_nothing_is_lost_to_silence_that_comes_at_once(
    pipe: Pipe, tmp_path: Path
) -> None:
    """Else a player would be busy with the pause's silence for as long as the pause was."""
    source, sink = piped(pipe, tmp_path, 100)
    reader = Reader(pipe)
    for n in range(100):
        heard = source.take((n + 1) * FRAME_NS)
        assert heard is not None
        paused = 20 <= n < 70
        if not paused and not sink.too_late(heard.position, 0):
            sink.play(heard.pcm, heard.position, 0)
        reader.take()
    assert sink.late_frames == 0
    while sink.pending_s():
        reader.take()
    sink.close()
    sound = np.concatenate([*reader.heard, pipe.read()])
    frames = sound.reshape(-1, FRAME_SAMPLES)
    assert [n for n, f in enumerate(frames) if f.any()] == [*range(1, 21), *range(71, 101)]
    source.close()


def test_an_answer_whose_place_is_silence_by_now_is_late(pipe: Pipe, tmp_path: Path) -> None:
    source, sink = piped(pipe, tmp_path, 20)
    heard = []
    for n in range(20):
        heard += [h for h in [source.take((n + 1) * FRAME_NS)] if h]
        pipe.read()
    late = [sink.too_late(h.position, 0) for h in heard]
    assert late == [True] * late.count(True) + [False] * late.count(False)
    assert late.count(False) == PATIENCE_SAMPLES // FRAME_SAMPLES + 2
    assert sink.late_frames == late.count(True)
    source.close()
    sink.close()


def test_a_reader_that_reads_nothing_gets_no_endless_silence(pipe: Pipe, tmp_path: Path) -> None:
    source, sink = piped(pipe, tmp_path, 100)
    for n in range(100):
        source.take((n + 1) * FRAME_NS)
    assert 2 * SAMPLE_RATE * sink.pending_s() < WAITING_BYTES_MAX + 2 * FRAME_BYTES
    source.close()
    sink.close()


def test_a_fast_talk_waits_for_its_reader(pipe: Pipe, tmp_path: Path) -> None:
    source, sink = piped(pipe, tmp_path, 40, fast=True)
    assert isinstance(source, HeldSource)
    taken = 0
    while (heard := source.take(0)) is not None:
        sink.play(heard.pcm, heard.position, 0)
        taken += 1
    assert 10 < taken < 20, "64 KiB and what did not fit"
    assert source.wait_s(0) > 0
    found = len(pipe.read())
    while not source.ended:
        heard = source.take(0)
        if heard is not None:
            sink.play(heard.pcm, heard.position, 0)
        else:
            found += len(pipe.read())
    found += len(pipe.read())
    assert found == 41 * FRAME_SAMPLES
    assert sink.late_frames == 0
    source.close()
    sink.close()


def test_other_sinks_hold_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), SAMPLE_RATE)
    file = FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=0, seconds=None)
    sink: object = object()
    assert held_by(file, sink) is file  # type: ignore[arg-type]
    file.close()
