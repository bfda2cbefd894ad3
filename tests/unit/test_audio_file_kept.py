"""What an output file is before its talk begins, while it lasts, and when its writer is killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio.file_formats import FLAC_BLOCK_SAMPLES, FORMATS
from moshid.audio.file_sink import FileSink
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, silence
from moshid.audio.ring import Samples
from moshid.errors import BadAudioFile

LOSSLESS = [suffix for suffix, (_kind, subtype) in FORMATS.items() if subtype == "PCM_16"]
OLD = b"the answer of yesterday" * 1000


def noise(frames: int) -> Samples:
    pcm = 0.1 * np.random.default_rng(0).standard_normal(frames * FRAME_SAMPLES)
    return pcm.astype(np.float32)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("starts", [False, True])
def test_a_file_stays_as_it_was_until_there_is_an_answer(
    tmp_path: Path, suffix: str, starts: bool
) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(OLD)
    sink = FileSink(str(path))
    if starts:
        sink.start(0)
    assert path.read_bytes() == OLD
    sink.close()
    sink.close()
    assert path.read_bytes() == OLD


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_nothing_of_the_old_file_is_left_behind_the_answer(tmp_path: Path, suffix: str) -> None:
    old, new = tmp_path / f"old{suffix}", tmp_path / f"new{suffix}"
    old.write_bytes(OLD)
    for path in (old, new):
        sink = FileSink(str(path))
        sink.start(0)
        sink.play(noise(1), 0, 0)
        sink.close()
    assert old.read_bytes() == new.read_bytes()


def test_a_file_for_a_talk_that_does_not_start_is_removed_and_an_empty_one_of_one_that_does_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.wav"
    FileSink(str(path)).close()
    assert not path.exists()
    sink = FileSink(str(path))
    sink.start(0)
    sink.close()
    assert soundfile.info(path).frames == 0


def test_what_somebody_else_put_there_meanwhile_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    sink = FileSink(str(path))
    path.unlink()
    path.write_bytes(OLD)
    sink.close()
    assert path.read_bytes() == OLD


def test_a_file_that_may_not_be_written_is_refused_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "loop.wav"
    path.symlink_to(path)
    with pytest.raises(BadAudioFile, match="cannot be written"):
        FileSink(str(path))
    assert path.is_symlink()


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("frames", [13, 60])
def test_a_killed_writer_s_file_lacks_a_second_at_most(
    tmp_path: Path, suffix: str, frames: int
) -> None:
    path = tmp_path / f"out{suffix}"
    sink = FileSink(str(path))
    pcm = noise(frames)
    for start in range(0, len(pcm), FRAME_SAMPLES):
        sink.play(pcm[start : start + FRAME_SAMPLES], start, 0)
    found, _rate = soundfile.read(path, dtype="float32")  # and no close
    wanted = np.concatenate([silence(), pcm])
    assert len(wanted) - SAMPLE_RATE - FLAC_BLOCK_SAMPLES < len(found) <= len(wanted)
    assert np.abs(found - wanted[: len(found)]).max() < 2**-14
    sink.play(pcm[:FRAME_SAMPLES], len(pcm), 0)
    sink.close()
    found, _rate = soundfile.read(path, dtype="float32")
    assert len(found) == len(wanted) + FRAME_SAMPLES
    assert np.abs(found[: len(wanted)] - wanted).max() < 2**-14


@pytest.mark.parametrize(
    ("suffix", "missing_s_max"), [(".opus", 0.3), (".mp3", 0.2), (".ogg", 1.0)]
)
def test_a_killed_writer_s_lossy_file_lacks_little(
    tmp_path: Path, suffix: str, missing_s_max: float
) -> None:
    """Quieter towards its end, so that an MP3 of many bit rates would be said to be shorter."""
    path = tmp_path / f"out{suffix}"
    sink = FileSink(str(path))
    pcm = noise(125) * np.linspace(1.0, 0.01, 125 * FRAME_SAMPLES, dtype=np.float32)
    for frame, start in enumerate(range(0, len(pcm), FRAME_SAMPLES)):
        sink.play(pcm[start : start + FRAME_SAMPLES], start, 0)
        if frame >= 100:
            found, _rate = soundfile.read(path, dtype="float32")  # and no close
            assert start + 2 * FRAME_SAMPLES - len(found) < missing_s_max * SAMPLE_RATE
    sink.close()
    found, _rate = soundfile.read(path, dtype="float32")
    assert len(found) == len(pcm) + FRAME_SAMPLES
