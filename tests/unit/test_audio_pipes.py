"""FIFOs in place of devices: real pipes, virtual time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio import fifo
from moshid.audio.fifo import FRAME_BYTES, open_fifo
from moshid.audio.files import FileSource
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE, from_int16, to_int16
from moshid.audio.pipe_sink import (
    PATIENCE_SAMPLES,
    WAITING_BYTES_MAX,
    HeldSource,
    PipeSink,
    held_by,
)
from moshid.audio.pipe_source import PAUSE_NS, PipeSource
from moshid.audio.ring import Samples
from moshid.errors import BadAudioFile

MS = 1_000_000


class Pipe:
    """A FIFO, and the far side of it: what another process does."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def write(self, level: float, samples: int = FRAME_SAMPLES) -> None:
        """So many samples of one value."""
        data = frame(level, samples)
        assert os.write(self.fd, data) == len(data)

    def read(self) -> Samples:
        """All that is there, as int16."""
        found = b""
        try:
            while data := os.read(self.fd, 1 << 20):
                found += data
        except BlockingIOError:
            pass
        return np.frombuffer(found, "<i2").astype(np.float32)

    def hang_up(self) -> None:
        """Close the far side."""
        os.close(self.fd)
        self.fd = -1


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "p")
    yield pipe
    if pipe.fd >= 0:
        pipe.hang_up()


def frame(level: float, samples: int = FRAME_SAMPLES) -> bytes:
    return to_int16(np.full(samples, level, np.float32)).tobytes()


def source_of(
    pipe: Pipe, *, fast: bool, tail_frames: int = 0, seconds: float | None = None
) -> PipeSource:
    source = PipeSource(pipe.path, fast=fast, tail_frames=tail_frames, seconds=seconds)
    source.start(0)
    return source


def level(pcm: Samples) -> float:
    return round(float(pcm[0]), 2)


def test_16_bits_are_read_and_written_by_upstreams_rule() -> None:
    pcm = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -3e-5, np.nan], np.float32)
    assert to_int16(pcm).tolist() == [0, 16383, -16383, 32767, -32767, 32767, 0, 0]


def test_fast_frames_come_as_they_are_written_and_the_tail_follows(pipe: Pipe) -> None:
    source = source_of(pipe, fast=True, tail_frames=2)
    assert source.take(0) is None
    assert source.wait_s(0) > 0
    pipe.write(0.25, FRAME_SAMPLES - 1)
    assert source.take(0) is None, "one sample is missing"
    pipe.write(0.25, 11)
    pipe.hang_up()
    heard = [source.take(0) for _ in range(4)]
    assert source.ended
    assert source.take(0) is None
    found = [(h.position, level(h.pcm), np.count_nonzero(h.pcm)) for h in heard if h]
    assert found == [(0, 0.25, 1920), (1920, 0.25, 10), (3840, 0.0, 0), (5760, 0.0, 0)]
    source.close()


@pytest.mark.parametrize("tail_frames", [0, 1])
def test_a_writer_that_says_nothing_at_all_ends_the_talk_too(pipe: Pipe, tail_frames: int) -> None:
    source = source_of(pipe, fast=True, tail_frames=tail_frames)
    pipe.hang_up()
    heard = [source.take(0), source.take(0)]
    assert sum(h is not None for h in heard) == tail_frames
    assert source.ended
    source.close()


def test_before_the_first_writer_has_come_it_is_waited_for(pipe: Pipe) -> None:
    path = pipe.path
    pipe.hang_up()
    source = PipeSource(path, fast=True, tail_frames=0, seconds=None)
    assert source.take(0) is None
    assert not source.ended
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, frame(0.5))
    os.close(fd)
    heard = source.take(0)
    assert heard is not None
    assert level(heard.pcm) == 0.5
    assert source.ended
    source.close()


def test_at_real_time_no_frame_comes_before_its_time(pipe: Pipe) -> None:
    source = source_of(pipe, fast=False)
    pipe.write(0.1)
    pipe.write(0.2)
    assert source.take(FRAME_NS - 1) is None
    assert source.wait_s(FRAME_NS // 2) == pytest.approx(0.04)
    first = source.take(FRAME_NS + 2 * MS)
    assert first is not None
    assert (first.capture_ns, first.position) == (FRAME_NS, 0)
    assert source.take(2 * FRAME_NS - 1) is None
    second = source.take(2 * FRAME_NS + 15 * MS)
    assert second is not None
    assert (second.capture_ns, second.position) == (2 * FRAME_NS, FRAME_SAMPLES)
    source.close()


def test_a_late_writer_moves_the_time_and_loses_nothing(pipe: Pipe) -> None:
    source = source_of(pipe, fast=False)
    late_ns = FRAME_NS + 100 * MS
    assert source.take(FRAME_NS) is None
    assert source.take(late_ns) is None, "it is not there yet"
    pipe.write(0.1)
    first = source.take(late_ns + 3 * MS)
    assert first is not None
    assert (first.capture_ns, first.position) == (late_ns, 2400)
    pipe.write(0.2)
    assert source.take(late_ns + FRAME_NS - 1) is None, "the next is due a frame later"
    second = source.take(late_ns + FRAME_NS)
    assert second is not None
    assert (level(second.pcm), second.position) == (0.2, 2400 + FRAME_SAMPLES)
    source.close()


def test_if_it_was_we_who_looked_late_the_frames_are_made_up_for(pipe: Pipe) -> None:
    """Else each of our stalls would stay in the writer's pipe, as lag."""
    source = source_of(pipe, fast=False)
    assert source.take(FRAME_NS // 2) is None
    pipe.write(0.1, 4 * FRAME_SAMPLES)
    stalled_ns = 4 * FRAME_NS + 5 * MS
    heard = [source.take(stalled_ns) for _ in range(5)]
    assert [h.position // FRAME_SAMPLES for h in heard if h] == list(range(4))
    assert [h.capture_ns // FRAME_NS for h in heard if h] == list(range(1, 5))
    source.close()


def test_a_writer_that_pauses_is_silent_until_it_goes_on(pipe: Pipe) -> None:
    source = source_of(pipe, fast=False)
    pipe.write(0.3, 100)
    given_up_ns = FRAME_NS + PAUSE_NS
    assert source.take(given_up_ns - 1) is None
    heard = [source.take(given_up_ns + i * FRAME_NS) for i in range(3)]
    assert [np.count_nonzero(h.pcm) for h in heard if h] == [100, 0, 0]
    pipe.write(0.4)
    again = source.take(given_up_ns + 3 * FRAME_NS)
    assert again is not None
    assert level(again.pcm) == 0.4
    positions = [h.position for h in [*heard, again] if h]
    assert np.diff(positions).tolist() == [FRAME_SAMPLES] * 3
    source.close()


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("odd", [1, 201])
def test_half_a_sample_waits_for_its_other_half(pipe: Pipe, odd: int, fast: bool) -> None:
    """Whoever writes may do so in pieces of any size, and pause in the midst of a sample."""
    source = source_of(pipe, fast=fast)
    data = to_int16(np.linspace(0.1, 0.3, 2 * FRAME_SAMPLES, dtype=np.float32)).tobytes()
    os.write(pipe.fd, data[:odd])
    heard = [source.take(FRAME_NS), source.take(FRAME_NS + PAUSE_NS)]
    os.write(pipe.fd, data[odd:] + b"\1")
    pipe.hang_up()
    for n in range(2, 8):
        heard.append(source.take(n * FRAME_NS + PAUSE_NS))
    assert source.ended
    pcm = np.concatenate([h.pcm for h in heard if h])
    assert np.array_equal(pcm[pcm != 0], from_int16(data))
    source.close()


def test_seconds_cut_a_pipe(pipe: Pipe) -> None:
    source = source_of(pipe, fast=True, tail_frames=1, seconds=0.12)
    pipe.write(0.5, 3 * FRAME_SAMPLES)
    heard = [source.take(0) for _ in range(3)]
    assert [np.count_nonzero(h.pcm) for h in heard if h] == [1920, 960, 0]
    assert source.ended
    assert source.cut_short
    source.close()


def test_a_time_too_short_for_a_sample_ends_all_the_same(pipe: Pipe) -> None:
    source = source_of(pipe, fast=True, seconds=1e-6)
    pipe.write(0.5, FRAME_SAMPLES)
    heard = source.take(0)
    assert heard is not None
    assert np.count_nonzero(heard.pcm) == 1
    assert source.ended
    source.close()


def test_a_sound_file_through_the_pipe_is_refused(pipe: Pipe, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(4000, np.float32), 44_100)
    source = source_of(pipe, fast=True)
    os.write(pipe.fd, (tmp_path / "a.wav").read_bytes())
    with pytest.raises(BadAudioFile, match="raw PCM"):
        source.take(0)
    source.close()


def test_only_fifos_of_our_own_are_opened(pipe: Pipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BadAudioFile, match="no pipe of our own"):
        open_fifo(str(tmp_path / "file"), os.O_RDONLY, shorten=False)
    with pytest.raises(BadAudioFile, match="no pipe of our own"):
        open_fifo(pipe.path, os.O_RDONLY, shorten=False, uid=os.geteuid() + 1)
    with pytest.raises(BadAudioFile, match="cannot be opened"):
        open_fifo(str(tmp_path / "none"), os.O_RDONLY, shorten=False)
    assert fifo.is_pipe(pipe.path)
    assert not fifo.is_pipe(str(tmp_path / "file"))
    assert not fifo.is_pipe("\0")


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
    soundfile.write(tmp_path / "a.wav", np.full(100 * FRAME_SAMPLES, 0.5), SAMPLE_RATE)
    sink, reader = PipeSink(pipe.path, fast=False), Reader(pipe)
    file = FileSource(str(tmp_path / "a.wav"), fast=False, tail_frames=0, seconds=None)
    source = held_by(file, sink)
    source.start(0)
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
    soundfile.write(tmp_path / "a.wav", np.full(20 * FRAME_SAMPLES, 0.5), SAMPLE_RATE)
    sink = PipeSink(pipe.path, fast=False)
    file = FileSource(str(tmp_path / "a.wav"), fast=False, tail_frames=0, seconds=None)
    source = held_by(file, sink)
    source.start(0)
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
    soundfile.write(tmp_path / "a.wav", np.full(100 * FRAME_SAMPLES, 0.5), SAMPLE_RATE)
    sink = PipeSink(pipe.path, fast=False)
    file = FileSource(str(tmp_path / "a.wav"), fast=False, tail_frames=0, seconds=None)
    source = held_by(file, sink)
    source.start(0)
    for n in range(100):
        source.take((n + 1) * FRAME_NS)
    assert 2 * SAMPLE_RATE * sink.pending_s() < WAITING_BYTES_MAX + 2 * FRAME_BYTES
    source.close()
    sink.close()


def test_a_fast_talk_waits_for_its_reader(pipe: Pipe, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(40 * FRAME_SAMPLES, 0.5), SAMPLE_RATE)
    sink = PipeSink(pipe.path, fast=True)
    file = FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=0, seconds=None)
    source = held_by(file, sink)
    assert isinstance(source, HeldSource)
    source.start(0)
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
