"""FIFOs in place of devices: real pipes, virtual time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio import fifo
from moshid.audio.fifo import open_fifo
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, from_int16, to_int16
from moshid.audio.pipe_source import PAUSE_NS, PipeSource
from moshid.audio.ring import Samples
from moshid.errors import BadAudioFile
from tests.fakes.pipes import Pipe, frame, piping

MS = 1_000_000


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    with piping(tmp_path / "p") as pipe:
        yield pipe


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


@pytest.mark.parametrize("head", [b"ID3\4\0\0", b"riff\x2e\x91", b"\x1aE\xdf\xa3", b"OggS\0\2"])
def test_so_is_one_that_libsndfile_would_not_write(pipe: Pipe, head: bytes) -> None:
    """An MP3 with a title would be noise at full scale."""
    source = source_of(pipe, fast=True)
    os.write(pipe.fd, head + bytes(4000))
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
