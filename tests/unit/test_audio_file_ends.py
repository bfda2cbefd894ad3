"""Files in place of devices: formats, rates, pacing in virtual time, the output's time line."""

from __future__ import annotations

import os
import tracemalloc
import wave
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio import file_formats
from moshid.audio.file_formats import FORMATS
from moshid.audio.file_sink import FileSink
from moshid.audio.files import FileSource
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE, level_dbfs, silence
from moshid.audio.resample import Resampler
from moshid.audio.ring import Samples
from moshid.audio.wav import FILE_BYTES_MAX
from moshid.errors import BadAudioFile
from tests.fakes.little_room import room_for


def tone(rate: int, seconds: float, hz: float = 440.0) -> Samples:
    t = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def read_all(source: FileSource) -> Samples:
    source.start(0)
    frames: list[Samples] = []
    while not source.ended:
        heard = source.take(0)
        if heard is not None:
            assert heard.position == len(frames) * FRAME_SAMPLES
            frames.append(heard.pcm)
    return np.concatenate(frames)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_any_format_rate_and_channel_count_becomes_mono_at_24_khz(
    tmp_path: Path, kind: str
) -> None:
    left = tone(44_100, 1.5)
    path = tmp_path / f"stereo.{kind}"
    soundfile.write(path, np.stack([left, 0.5 * left], axis=1), 44_100)
    source = FileSource(str(path), fast=True, tail_frames=2, seconds=None)
    assert source.facts["channels"] == 2
    pcm = read_all(source)
    assert len(pcm) == (19 + 2) * FRAME_SAMPLES
    wanted = 0.75 * tone(SAMPLE_RATE, 1.5)
    inner = slice(2_000, 34_000)
    assert np.abs(pcm[inner] - wanted[inner]).max() < 0.02
    assert not pcm[-2 * FRAME_SAMPLES :].any()


def test_equal_rates_pass_through_untouched(tmp_path: Path) -> None:
    pcm = tone(SAMPLE_RATE, 1.0)
    soundfile.write(tmp_path / "a.wav", pcm, SAMPLE_RATE, subtype="FLOAT")
    source = FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=0, seconds=None)
    assert np.array_equal(read_all(source)[: len(pcm)], pcm)


def test_frames_come_at_their_time(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(SAMPLE_RATE, 0.4), SAMPLE_RATE)
    source = FileSource(str(tmp_path / "a.wav"), fast=False, tail_frames=1, seconds=None)
    source.start(1_000)
    assert source.take(1_000) is None
    assert source.wait_s(1_000) == pytest.approx(0.08)
    assert source.take(1_000 + FRAME_NS - 1) is None
    late = source.take(1_000 + 3 * FRAME_NS)
    assert late is not None
    assert late.capture_ns == 1_000 + FRAME_NS, "captured on the beat, however late we look"
    taken = 1
    while source.take(1_000 + 100 * FRAME_NS) is not None:
        taken += 1
    assert taken == 5 + 1
    assert source.ended


def test_seconds_cut_the_sound_and_the_tail_follows(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(SAMPLE_RATE, 5), SAMPLE_RATE)
    source = FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=3, seconds=0.8)
    pcm = read_all(source)
    assert len(pcm) == (10 + 3) * FRAME_SAMPLES
    assert level_dbfs(pcm[9 * FRAME_SAMPLES : 10 * FRAME_SAMPLES]) > -10
    assert not pcm[10 * FRAME_SAMPLES :].any()


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_a_file_that_is_cut_short_while_it_is_heard_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, tone(SAMPLE_RATE, 60.0), SAMPLE_RATE)
    source = FileSource(str(path), fast=True, tail_frames=0, seconds=None)
    os.truncate(path, 2 * path.stat().st_size // 3)
    with pytest.raises(BadAudioFile, match=r"cut short|cannot be read on"):
        read_all(source)
    source.close()


def test_a_file_that_is_replaced_or_deleted_is_heard_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for change in (path.unlink, lambda: path.write_bytes(b"")):
        soundfile.write(path, tone(SAMPLE_RATE, 4.0), SAMPLE_RATE)
        source = FileSource(str(path), fast=True, tail_frames=0, seconds=None)
        path.rename(tmp_path / "old.wav")
        path.touch()
        change()
        assert len(read_all(source)) == 50 * FRAME_SAMPLES
        source.close()


def test_an_empty_file_is_only_its_tail(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, dtype=np.float32), 48_000)
    source = FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=2, seconds=None)
    assert len(read_all(source)) == 2 * FRAME_SAMPLES


@pytest.mark.parametrize("content", [b"", b"RIFF", b"hello, I am text", b"RIFF\0\0\0\0WAVEjunk"])
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(BadAudioFile):
        FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=0, seconds=None)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadAudioFile, match="no file"):
        FileSource(str(tmp_path / "none.wav"), fast=True, tail_frames=0, seconds=None)
    with pytest.raises(BadAudioFile, match="regular"):
        FileSource(str(tmp_path), fast=True, tail_frames=0, seconds=None)
    with pytest.raises(BadAudioFile, match="folder"):
        FileSink(str(tmp_path / "none" / "a.wav"))
    with pytest.raises(BadAudioFile, match="is a folder") as caught:
        FileSink(str(tmp_path))
    assert "Give --out a file" in caught.value.hint
    with pytest.raises(BadAudioFile, match=r"suffix \.unknown") as caught:
        FileSink(str(tmp_path / "a.unknown"))
    assert ".wav .flac .ogg" in (caught.value.hint or "")
    assert not (tmp_path / "a.unknown").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="wants a folder that takes nothing")
def test_what_cannot_be_written_is_told_in_the_systems_words() -> None:
    with pytest.raises(
        BadAudioFile, match=r"/proc/a\.wav cannot be written: No such file"
    ) as caught:
        FileSink("/proc/a.wav")
    assert "Give --out a file" in caught.value.hint


def test_paths_that_cannot_be_looked_at_are_told_in_the_systems_words() -> None:
    """A name that is too long stands for a folder without permission: this may run as root."""
    path = "/tmp/" + "n" * 300 + ".wav"
    with pytest.raises(BadAudioFile, match="cannot be read: File name too long"):
        FileSource(path, fast=True, tail_frames=0, seconds=None)
    with pytest.raises(BadAudioFile, match="cannot be written: File name too long"):
        FileSink(path)
    for end in (FileSink, lambda p: FileSource(p, fast=True, tail_frames=0, seconds=None)):
        with pytest.raises(BadAudioFile, match="is no path"):
            end("/tmp/nul\0.wav")


def noise(frames: int) -> Samples:
    pcm = 0.1 * np.random.default_rng(0).standard_normal(frames * FRAME_SAMPLES)
    return pcm.astype(np.float32)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_is_told_in_the_systems_words(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"out{suffix}")
    with room_for(20_000):
        sink = FileSink(path)
        with pytest.raises(BadAudioFile, match="written: File too large") as caught:
            sink.play(noise(100), 0, 0)
        with suppress(BadAudioFile):  # a WAV ends with what there is
            sink.close()
    assert "Give --out a file" in caught.value.hint


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".opus"])
def test_a_disk_that_has_no_room_for_the_end_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    sink = FileSink(str(path))
    sink.play(noise(3), 0, 0)
    before = path.stat().st_size
    with room_for(before + 1), pytest.raises(BadAudioFile, match="written: File too large"):
        sink.close()
    sink.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants Linux's full device")
def test_devices_can_be_written_and_what_is_full_says_what_to_do() -> None:
    sink = FileSink("/dev/null")
    sink.play(noise(1), 0, 0)
    sink.close()
    with pytest.raises(BadAudioFile, match="No space left") as caught:
        FileSink("/dev/full")
    assert "Make room" in caught.value.hint


def test_a_wav_is_whole_though_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(bytes(1_000_000))
    sink = FileSink(str(path))
    sink.play(noise(60), 0, 0)  # and no close
    with wave.open(str(path)) as file:
        assert file.getnframes() >= 61 * FRAME_SAMPLES - SAMPLE_RATE
    sink.close()
    assert path.stat().st_size == 44 + 2 * 61 * FRAME_SAMPLES


def test_a_wav_that_can_hold_no_more_says_what_can(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "out.wav"))
    assert isinstance(sink._writer, file_formats._Wav)
    assert sink._writer._wav is not None
    sink._writer._wav.skip((FILE_BYTES_MAX - 3_000) // 2)  # 25 hours
    with pytest.raises(BadAudioFile, match=r"no more than 4\.29 GB, a \.w64 does"):
        sink.play(noise(1), 0, 0)
    sink.close()
    assert soundfile.info(tmp_path / "out.wav").frames == (FILE_BYTES_MAX - 3_000) // 2
    (tmp_path / "out.wav").unlink()


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_a_rate_that_nothing_has_is_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(SAMPLE_RATE, 0.1), SAMPLE_RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(BadAudioFile, match="samples a second"):
        FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=0, seconds=None)


def test_samples_that_are_no_numbers_spoil_nothing_else(tmp_path: Path) -> None:
    pcm = np.stack([tone(48_000, 1.0)] * 2, axis=1)
    pcm[20_000], pcm[20_001], pcm[20_002] = np.inf, -np.inf, np.nan
    soundfile.write(tmp_path / "a.wav", pcm, 48_000, subtype="FLOAT")
    source = FileSource(str(tmp_path / "a.wav"), fast=True, tail_frames=0, seconds=None)
    heard = read_all(source)
    source.close()
    error = np.abs(heard[:24_000] - tone(SAMPLE_RATE, 1.0))
    assert error.max() < 1.0
    assert error[10_200:23_000].max() < 0.02, "8 ms behind them all is as it was"


@pytest.mark.parametrize("suffix", [*FORMATS, ".WAV", ""])
def test_what_is_written_by_its_suffix_can_be_read_again(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"out{suffix}")
    sink = FileSink(path)
    pcm = tone(SAMPLE_RATE, 1.2)
    for start in range(0, len(pcm), FRAME_SAMPLES):
        sink.play(pcm[start : start + FRAME_SAMPLES], start, 0)
    sink.close()
    info = soundfile.info(path)
    assert (info.format, info.subtype) == FORMATS[suffix.lower() or ".wav"]
    assert info.samplerate == SAMPLE_RATE
    source = FileSource(path, fast=True, tail_frames=0, seconds=None)
    heard = read_all(source)
    # MP3 and Opus have delays of their own; the level tells that it is the tone.
    assert level_dbfs(heard[4 * FRAME_SAMPLES : 14 * FRAME_SAMPLES]) == pytest.approx(
        -9.03, abs=0.6
    )
    source.close()


@pytest.mark.parametrize("suffix", [".mp3", ".opus", ".ogg", ".flac"])
def test_read_in_blocks_a_file_is_what_it_is_as_a_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    kind, subtype = FORMATS[suffix]
    soundfile.write(path, tone(SAMPLE_RATE, 3.0), SAMPLE_RATE, format=kind, subtype=subtype)
    source = FileSource(str(path), fast=True, tail_frames=0, seconds=None)
    pcm, whole = read_all(source), soundfile.read(path, dtype="float32")[0]
    assert np.abs(pcm[: len(whole)] - whole).max() < 1e-4
    source.close()


def test_a_truncated_flac_is_told(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE)
    soundfile.write(tmp_path / "a.flac", noise, SAMPLE_RATE)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:60_000])
    source = FileSource(str(tmp_path / "cut.flac"), fast=True, tail_frames=0, seconds=None)
    with pytest.raises(BadAudioFile, match="cannot be read on"):
        read_all(source)
    source.close()


@pytest.mark.parametrize("kind", ["wav", "ogg", "mp3", "aiff"])
def test_a_truncated_file_ends_where_it_was_cut_and_the_tail_follows(
    tmp_path: Path, kind: str
) -> None:
    whole, cut = tmp_path / f"whole.{kind}", tmp_path / f"cut.{kind}"
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE)
    soundfile.write(whole, noise, SAMPLE_RATE)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 2 // 3])
    source = FileSource(str(cut), fast=True, tail_frames=1, seconds=None)
    pcm = read_all(source)
    assert 12 * FRAME_SAMPLES < len(pcm) < 30 * FRAME_SAMPLES
    assert not pcm[-FRAME_SAMPLES:].any()
    source.close()


def test_raw_samples_in_a_file_are_refused_with_the_way_to_do_it(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(8000))
    with pytest.raises(BadAudioFile, match="raw PCM") as caught:
        FileSource(str(tmp_path / "a.raw"), fast=True, tail_frames=0, seconds=None)
    assert "--in -" in (caught.value.hint or "")


def test_an_answer_stands_one_frame_after_its_question_and_holes_are_silence(
    tmp_path: Path,
) -> None:
    sink = FileSink(str(tmp_path / "out.wav"))
    sink.play(np.full(FRAME_SAMPLES, 0.25, dtype=np.float32), 0, 0)
    sink.play(np.full(FRAME_SAMPLES, 2.0, dtype=np.float32), 2 * FRAME_SAMPLES, 0)
    sink.close()
    sink.close()
    pcm, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == SAMPLE_RATE
    frames = pcm.reshape(-1, FRAME_SAMPLES)
    assert frames[:, 0].tolist() == pytest.approx([0, 0.25, 0, 1.0], abs=1e-4)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48_000, 24_000), (24_000, 44_100)])
@pytest.mark.parametrize("live", [True, False])
def test_resampling_chunk_by_chunk_keeps_the_sound_and_holds_little_back(
    rate_in: int, rate_out: int, live: bool
) -> None:
    resampler = Resampler(rate_in, rate_out, live=live)
    pcm, n = tone(rate_in, 1.0), rate_in // 100
    chunks, held_back_s = [], 0.0
    for start in range(0, len(pcm), n):
        chunks.append(resampler.feed(pcm[start : start + n]))
        fed_s = (start + n) / rate_in
        held_back_s = max(held_back_s, fed_s - sum(map(len, chunks)) / rate_out)
    chunks.append(resampler.feed(silence(0), last=True))
    out = np.concatenate(chunks)
    inner = np.arange(rate_out // 10, 9 * rate_out // 10)
    shifts = range(3) if live else range(1)
    errors = [np.abs(out[inner + k] - tone(rate_out, 1.0)[inner]).max() for k in shifts]
    assert min(errors) < 0.02
    if live:
        assert held_back_s <= resampler.delay_s


def test_levels() -> None:
    assert level_dbfs(silence()) == -120.0
    assert level_dbfs(np.ones(10, dtype=np.float32)) == pytest.approx(0.0)
    assert level_dbfs(tone(SAMPLE_RATE, 1.0)) == pytest.approx(-9.03, abs=0.05)


def test_a_long_silence_is_not_made_in_memory(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.wav"))
    hour = 3600 * SAMPLE_RATE
    tracemalloc.start()
    sink.play(silence(), hour, 0)
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    sink.close()
    assert soundfile.info(tmp_path / "a.wav").frames == hour + 2 * FRAME_SAMPLES
    assert peak_bytes < 4 << 20
