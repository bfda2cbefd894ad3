"""The recording: file, time line, limits, and what a killed writer leaves."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moshid.audio import wav
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, silence
from moshid.audio.recorder import QUEUE_PIECES_MAX, Recorder
from moshid.audio.request import RecordTo
from moshid.audio.ring import Samples
from moshid.audio.stereo import SLIP_FRAMES, WINDOW_SAMPLES, Mixer, Piece, PlayedLine, Stereo
from moshid.errors import RecordingFailed


def tone(value: float, n: int = FRAME_SAMPLES) -> Samples:
    return np.full(n, value, dtype=np.float32)


def joined(pieces: list[Piece]) -> Stereo:
    none = np.zeros((0, 2), dtype=np.int16)
    silent = (np.zeros((p, 2), dtype=np.int16) if isinstance(p, int) else p for p in pieces)
    return np.concatenate([none, *silent])


def data_of(path: Path) -> tuple[Samples, int]:
    pcm, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return pcm, rate


# --- the file


def test_a_file_is_a_wav_whenever_it_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    writer = wav.WavWriter(path)
    writer.write(np.arange(2000, dtype="<i2").tobytes())
    writer.settle(sync=True)
    assert data_of(path)[0].shape == (1000, 2)
    writer.write(b"\1\2\3\4\5")
    assert writer.seconds == 1001 / 24_000
    writer.close()
    pcm, rate = data_of(path)
    assert (pcm.shape, rate) == ((1001, 2), 24_000)
    assert os.stat(path).st_size == wav.HEADER_BYTES + 4004
    assert os.stat(path).st_mode & 0o777 == 0o600
    writer = wav.WavWriter(path)
    assert (writer.samples, writer.seconds) == (1001, 1001 / 24_000)
    writer.write(b"\0" * 8)
    writer.close()
    assert len(data_of(path)[0]) == 1003, "it went on at the end"


@pytest.mark.parametrize("cut", [0, 1, 10, 43, 44, 45, 47, 48, 1044])
def test_a_file_cut_off_anywhere_is_mended(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.wav"
    writer = wav.WavWriter(path)
    writer.write(np.arange(500, dtype="<i2").tobytes())  # no settle: the header says nothing yet
    whole = path.read_bytes()
    writer.close()
    path.write_bytes(whole[:cut])
    seconds = wav.mend(path)
    frames = max(0, cut - wav.HEADER_BYTES) // 4
    assert seconds == frames / 24_000
    pcm = soundfile.read(path, dtype="int16", always_2d=True)[0]
    assert np.array_equal(pcm.ravel(), np.arange(2 * frames))
    assert wav.mend(path) == seconds, "mending twice does no harm"


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "mono.wav"
    soundfile.write(path, np.zeros(100), 24_000)
    before = path.read_bytes()
    for touch in (wav.mend, wav.WavWriter):
        with pytest.raises(ValueError, match="no recording of ours"):
            touch(path)
    assert path.read_bytes() == before


# --- the time line


def test_both_sides_stand_at_their_positions() -> None:
    mixer = Mixer()
    assert mixer.put(0, tone(0.5), 0) == []
    mixer.put(1, tone(-0.25), 3000)
    out = joined(mixer.take(2000) + mixer.rest())
    assert out.shape == (3000 + FRAME_SAMPLES, 2)
    assert set(out[:FRAME_SAMPLES, 0]) == {16384}
    assert set(out[FRAME_SAMPLES:, 0]) == {0}
    assert set(out[:3000, 1]) == {0}
    assert set(out[3000:, 1]) == {-8192}


def test_a_gap_longer_than_the_window_is_silence() -> None:
    mixer = Mixer()
    mixer.put(0, tone(0.5), 0)
    pieces = mixer.put(0, tone(0.5), 5 * WINDOW_SAMPLES)
    out = joined(pieces + mixer.rest())
    assert len(out) == 5 * WINDOW_SAMPLES + FRAME_SAMPLES
    assert np.count_nonzero(out[:, 0]) == 2 * FRAME_SAMPLES
    assert [p if isinstance(p, int) else len(p) for p in pieces] == [
        WINDOW_SAMPLES,
        3 * WINDOW_SAMPLES + FRAME_SAMPLES,
    ]


def test_what_comes_too_late_for_its_place_is_counted() -> None:
    mixer = Mixer()
    mixer.put(0, tone(0.5), 0)
    mixer.take(FRAME_SAMPLES)
    mixer.put(1, tone(0.5), 1000)
    assert mixer.lost_samples == 920
    assert len(joined(mixer.rest())) == 1000


def test_what_is_played_follows_itself_though_its_times_jitter() -> None:
    line, rng = PlayedLine(), np.random.default_rng(1)
    ends = []
    for n in range(100):
        jitter = round(rng.uniform(-200, 200))
        pcm, position = line.place(tone(0.5), 5000 + n * FRAME_SAMPLES + jitter)
        ends.append((position, position + len(pcm)))
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends)), "no gap, no overlap"
    assert abs(ends[-1][0] - (5000 + 99 * FRAME_SAMPLES)) <= 240


def test_a_gap_is_kept_and_an_overlap_is_cut() -> None:
    line = PlayedLine()
    assert line.place(tone(0.5), 0)[1] == 0
    assert line.place(tone(0.5), 5000)[1] == 5000
    pcm, position = line.place(tone(0.5), 5000 + FRAME_SAMPLES - 1200)
    assert position == 5000 + FRAME_SAMPLES
    assert len(pcm) == FRAME_SAMPLES - 1200


def test_two_clocks_are_brought_together_where_moshi_is_silent() -> None:
    line = PlayedLine()
    drift = 3  # samples a frame: 1,600 ppm
    moved = []
    for n in range(2 * SLIP_FRAMES * 8):
        wanted = n * (FRAME_SAMPLES + drift)
        pcm = tone(0.5) if n % 20 else silence()
        _, position = line.place(pcm, wanted)
        moved.append(position - wanted)
    assert max(map(abs, moved)) < 960, "never 40 ms off"
    assert abs(moved[-1]) < 400


# --- the recorder


def to(folder: Path, **limits: int) -> RecordTo:
    return RecordTo(path=str(folder / "r.wav"), **limits)


def record(recorder: Recorder, frames: int, *, first: int = 0) -> None:
    """The user says a ramp of levels, Moshi half of it, heard 30 ms after each frame's end."""
    for n in range(first, first + frames):
        position = n * FRAME_SAMPLES
        recorder.hear(tone((n + 1) / 1000), position, origin_ns=0)
        end_ns = (n + 1) * FRAME_NS
        recorder.say(tone((n + 1) / 2000), position, end_ns + 30_000_000)


def test_user_left_moshi_right_on_one_clock(tmp_path: Path) -> None:
    recorder = Recorder(to(tmp_path), by_position=False, may_wait=True)
    record(recorder, 50)
    assert recorder.status()["state"] == "on"
    status = recorder.close()
    pcm, _ = data_of(tmp_path / "r.wav")
    shift = FRAME_SAMPLES + 720
    assert len(pcm) == 50 * FRAME_SAMPLES + shift
    assert status["seconds"] == round(len(pcm) / 24_000, 2)
    for n in range(50):
        middle = n * FRAME_SAMPLES + FRAME_SAMPLES // 2
        assert pcm[middle, 0] == pytest.approx((n + 1) / 1000, abs=1e-4)
        assert pcm[middle + shift, 1] == pytest.approx((n + 1) / 2000, abs=1e-4)


def test_with_a_file_for_a_speaker_moshi_stands_a_frame_later(tmp_path: Path) -> None:
    recorder = Recorder(to(tmp_path), by_position=True, may_wait=True)
    record(recorder, 3)
    recorder.close()
    pcm, _ = data_of(tmp_path / "r.wav")
    assert np.flatnonzero(pcm[:, 1])[0] == FRAME_SAMPLES


def test_another_process_goes_on_where_the_talk_is(tmp_path: Path) -> None:
    """As when the devices had gone: 30 frames, 10 that nobody heard, 20 by the next process."""
    first = Recorder(to(tmp_path), by_position=True, may_wait=True)
    record(first, 30)
    first.close()
    second = Recorder(to(tmp_path), by_position=True, may_wait=True, first_frame=40)
    record(second, 20)
    second.close()
    pcm, _ = data_of(tmp_path / "r.wav")
    assert len(pcm) == 61 * FRAME_SAMPLES
    left = pcm[: 60 * FRAME_SAMPLES, 0].reshape(60, FRAME_SAMPLES)[:, 100]
    wanted = [(n + 1) / 1000 for n in range(30)] + [0.0] * 10 + [(n + 1) / 1000 for n in range(20)]
    assert left == pytest.approx(wanted, abs=1e-4)


def test_hours_in_which_a_device_was_away_are_silence_at_no_cost(tmp_path: Path) -> None:
    """Eight of them as sound would be 2.8 GB of memory, and the talk waits while they are made."""
    first = Recorder(to(tmp_path), by_position=True, may_wait=False)
    record(first, 30)
    first.close()
    written: list[int] = []

    class Counting(wav.WavWriter):
        def write(self, data: bytes | memoryview) -> None:
            written.append(len(memoryview(data).cast("B")))
            super().write(data)

    frames = round(8 * 3600 / 0.08)
    second = Recorder(
        to(tmp_path), by_position=True, may_wait=False, make=Counting, first_frame=frames
    )
    record(second, 20)
    status = second.close()
    assert status["lost_frames"] == 0
    assert status["seconds"] == pytest.approx(8 * 3600 + 21 * 0.08)
    assert sum(written) < 1_000_000
    with soundfile.SoundFile(tmp_path / "r.wav") as file:
        file.seek(frames * FRAME_SAMPLES + 100)
        assert file.read(1)[0][0] == pytest.approx(1 / 1000, abs=1e-4)
    (tmp_path / "r.wav").unlink()


def test_a_silence_beyond_the_limit_ends_at_it(tmp_path: Path) -> None:
    limit = wav.HEADER_BYTES + 4 * 200_000
    away = Recorder(
        to(tmp_path, max_bytes=limit), by_position=True, may_wait=True, first_frame=9_999
    )
    record(away, 40)
    assert away.close()["reason"] == "limit"
    assert os.stat(tmp_path / "r.wav").st_size == limit
    full = Recorder(to(tmp_path, max_bytes=limit), by_position=True, may_wait=True, first_frame=200)
    record(full, 40)
    assert full.close()["reason"] == "limit", "and so does one that begins there"
    assert os.stat(tmp_path / "r.wav").st_size == limit


def test_at_its_limit_it_stops_and_says_so(tmp_path: Path) -> None:
    limit = wav.HEADER_BYTES + 4 * 10_000
    recorder = Recorder(to(tmp_path, max_bytes=limit), by_position=True, may_wait=True)
    assert not recorder.news()
    record(recorder, 40)
    status = recorder.close()
    assert (status["state"], status["reason"]) == ("stopped", "limit")
    assert recorder.news()
    assert not recorder.news(), "told once"
    assert os.stat(tmp_path / "r.wav").st_size == limit == status["bytes"]
    assert len(data_of(tmp_path / "r.wav")[0]) == 10_000


class FaultyWriter(wav.WavWriter):
    """After ``good_bytes`` the disk is full, or hangs until ``goes_on`` is set."""

    good_bytes = 80_000
    goes_on: threading.Event | None = None

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data).cast("B")
        room = self.good_bytes - self.size_bytes
        super().write(view[: max(0, room)])
        if room < len(view) and self.goes_on is None:
            raise OSError(errno.ENOSPC, "no space")
        if room < len(view) and self.goes_on is not None:
            self.goes_on.wait()


def test_a_full_disk_stops_it_and_what_is_there_is_whole(tmp_path: Path) -> None:
    recorder = Recorder(to(tmp_path), by_position=True, may_wait=True, make=FaultyWriter)
    record(recorder, 40)
    status = recorder.close()
    assert (status["state"], status["reason"]) == ("stopped", "disk_full")
    assert os.stat(tmp_path / "r.wav").st_size == 80_000
    assert len(data_of(tmp_path / "r.wav")[0]) == (80_000 - wav.HEADER_BYTES) // 4


def test_no_room_at_the_start_is_refused_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(RecordingFailed, match="bytes free") as caught:
        Recorder(to(tmp_path, min_free_bytes=2**62), by_position=True, may_wait=True)
    assert "talk_record_min_free_bytes" in caught.value.hint
    assert not (tmp_path / "r.wav").exists()


def test_folders_are_made_and_what_is_none_is_refused(tmp_path: Path) -> None:
    Recorder(to(tmp_path / "a" / "b"), by_position=True, may_wait=True).close()
    assert (tmp_path / "a" / "b" / "r.wav").exists()
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RecordingFailed, match="no folder"):
            Recorder(to(folder), by_position=True, may_wait=True)
    (tmp_path / "r.wav").write_text("something else")
    with pytest.raises(RecordingFailed, match="no recording of ours"):
        Recorder(to(tmp_path), by_position=True, may_wait=True)
    with pytest.raises(RecordingFailed, match="cannot be kept in /proc"):
        Recorder(to(Path("/proc/none")), by_position=True, may_wait=True)


class Hanging(FaultyWriter):
    """Takes the first second, and then nothing until ``goes_on`` is set; one for each test."""


def hanging(tmp_path: Path, pieces_max: int) -> tuple[Recorder, threading.Event]:
    goes = threading.Event()
    make = type("OneHanging", (Hanging,), {"goes_on": goes})
    return Recorder(
        to(tmp_path), by_position=True, may_wait=False, make=make, pieces_max=pieces_max
    ), goes


def test_a_disk_that_hangs_costs_the_recording_frames_and_never_the_caller(
    tmp_path: Path,
) -> None:
    recorder, goes = hanging(tmp_path, 125)
    record(recorder, 400)
    assert 100 < recorder.lost_frames < 300
    status = recorder.close(patience_s=0.01)
    assert status["lost_frames"] == recorder.lost_frames > 350, "nor did it take what waited"
    assert (status["state"], status["reason"]) == ("stopped", "failed")
    goes.set()


def test_a_disk_that_hangs_for_a_minute_costs_nothing(tmp_path: Path) -> None:
    recorder, goes = hanging(tmp_path, QUEUE_PIECES_MAX)
    record(recorder, 760)
    assert recorder.lost_frames == 0
    goes.set()
    status = recorder.close(patience_s=60.0)
    assert (status["state"], status["lost_frames"]) == ("on", 0)


def test_what_did_not_fit_becomes_silence_and_the_rest_keeps_its_place(tmp_path: Path) -> None:
    class Stuck(wav.WavWriter):
        hangs, goes_on, drained = threading.Event(), threading.Event(), threading.Event()
        pieces = 0

        def write(self, data: bytes | memoryview) -> None:
            self.pieces += 1
            if self.pieces > 1:  # the first one is the header
                self.hangs.set()
                self.goes_on.wait()
            super().write(data)
            if self.pieces == 126:
                self.drained.set()

    recorder = Recorder(to(tmp_path), by_position=True, may_wait=False, make=Stuck, pieces_max=125)
    record(recorder, 50)
    assert Stuck.hangs.wait(30)
    record(recorder, 250, first=50)
    assert recorder.lost_frames > 100
    Stuck.goes_on.set()
    assert Stuck.drained.wait(30)
    record(recorder, 50, first=300)
    recorder.close()
    pcm, _ = data_of(tmp_path / "r.wav")
    assert len(pcm) == 351 * FRAME_SAMPLES
    frames = pcm[:, 0].reshape(351, FRAME_SAMPLES)
    silent = [n for n in range(350) if not frames[n].any()]
    assert recorder.lost_frames >= len(silent) > 100
    assert silent == list(range(silent[0], silent[-1] + 1)), "one hole"
    assert frames[349, 0] == pytest.approx(0.35, abs=1e-4)
    assert frames[silent[-1] + 1, 0] == pytest.approx((silent[-1] + 2) / 1000, abs=1e-4)
