"""The sound check in a simulated room: what it hears of its chirps, and its verdict."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import soundfile

from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.ring import Samples
from moshid.audio.sound_check import CHIRP_FRAMES, LOOP_FRAME, SoundCheck
from moshid.audio.verdict import Examiner
from moshid.demo import checkpoint

TOLD_MS = 12.0
PLAYED_AFTER_SAMPLES = 480
"""Between a frame's end and its answer's start at the speaker."""


class Room:
    """A microphone that hears noise, a voice, and the speaker again: ``gain`` at ``delay_ms``."""

    def __init__(
        self, *, gain: float, delay_ms: float, noise_dbfs: float, seconds: float, seed: int = 5
    ) -> None:
        n = round(seconds * SAMPLE_RATE) // FRAME_SAMPLES * FRAME_SAMPLES
        rng = np.random.default_rng(seed)
        self.air = 10 ** (noise_dbfs / 20) * rng.standard_normal(n + 4 * SAMPLE_RATE)
        self.played = np.zeros(n + 4 * SAMPLE_RATE)
        self.frames = n // FRAME_SAMPLES
        self.gain, self.delay = gain, round(delay_ms * SAMPLE_RATE / 1000)

    def run(
        self,
        examiner: Examiner,
        *,
        zero: bool = False,
        jitter_ms: float = 0.0,
        late_ms: float = 0.0,
    ) -> None:
        rng = np.random.default_rng(6)
        for frame in range(self.frames):
            begin, end = frame * FRAME_SAMPLES, (frame + 1) * FRAME_SAMPLES
            pcm = np.zeros(FRAME_SAMPLES) if zero else self.air[begin:end]
            end_ns = (frame + 1) * FRAME_NS + round(rng.uniform(0, jitter_ms) * 1e6)
            late_ns = round(late_ms * 1e6) if frame > 3 else 0
            heard = Heard(pcm.astype(np.float32), begin, end_ns + late_ns)
            examiner.hear(heard)
            at = end + PLAYED_AFTER_SAMPLES
            answer = examiner.answer(frame, heard.pcm)
            self.played[at : at + FRAME_SAMPLES] = answer
            late = at + self.delay
            self.air[late : late + FRAME_SAMPLES] += self.gain * answer
            told_ns = round((PLAYED_AFTER_SAMPLES * 1000 / SAMPLE_RATE + TOLD_MS) * 1e6)
            examiner.played(frame, end_ns + told_ns)


def examined(
    *, gain: float = 0.0, delay_ms: float = 50.0, noise_dbfs: float = -60.0, seconds: float = 4.0
) -> tuple[Room, dict[str, Any]]:
    room = Room(gain=gain, delay_ms=delay_ms, noise_dbfs=noise_dbfs, seconds=seconds)
    examiner = Examiner(hears=True, speaks=True, told_ms=TOLD_MS)
    room.run(examiner)
    return room, examiner.verdict(underruns=0)


@pytest.mark.parametrize("delay_ms", [1.0, 15.0, 60.0, 150.0, 380.0])
@pytest.mark.parametrize("below_db", [0.0, 12.0, 30.0])
def test_an_echo_is_found_with_its_delay_and_level(delay_ms: float, below_db: float) -> None:
    _, verdict = examined(gain=10 ** (-below_db / 20), delay_ms=delay_ms)
    echo = verdict["echo"]
    assert echo["heard"] is True
    assert echo["below_db"] == pytest.approx(below_db, abs=0.5)
    assert echo["delay_ms"] == pytest.approx(delay_ms, abs=1.0)
    assert verdict["latency_ms"] == echo["delay_ms"]
    assert verdict["latency_measured"]
    assert ("howl" in echo["hint"]) == (below_db == 0.0)


def test_without_an_echo_the_devices_word_is_taken() -> None:
    _, verdict = examined()
    assert verdict["echo"] == {"heard": False, "below_db": None, "delay_ms": None, "hint": None}
    assert (verdict["latency_ms"], verdict["latency_measured"]) == (TOLD_MS, False)
    assert verdict["ok"]
    assert verdict["microphone"]["level_dbfs"] == pytest.approx(-60.0, abs=0.5)


@pytest.mark.parametrize("noise_dbfs", [-90.0, -60.0, -30.0, -10.0])
def test_noise_alone_is_never_taken_for_an_echo(noise_dbfs: float) -> None:
    for seed in range(4):
        room = Room(gain=0.0, delay_ms=0.0, noise_dbfs=noise_dbfs, seconds=3.0, seed=seed)
        examiner = Examiner(hears=True, speaks=True, told_ms=TOLD_MS)
        room.run(examiner)
        assert examiner.verdict(underruns=0)["echo"]["heard"] is False


@pytest.mark.parametrize(("gain", "heard"), [(0.0, False), (0.3, True)])
def test_a_user_who_talks_into_the_chirps_does_not_fool_it(gain: float, heard: bool) -> None:
    said = soundfile.read(checkpoint.speech_wav(), dtype="float32")[0]
    for begin in range(0, 96_000, 16_000):
        room = Room(gain=gain, delay_ms=80.0, noise_dbfs=-60.0, seconds=4.0)
        voice = said[begin : begin + 4 * SAMPLE_RATE]
        room.air[: len(voice)] += voice
        examiner = Examiner(hears=True, speaks=True, told_ms=TOLD_MS)
        room.run(examiner)
        echo = examiner.verdict(underruns=0)["echo"]
        assert echo["heard"] is heard, f"from sample {begin} on"
        if heard:
            assert echo["delay_ms"] == pytest.approx(80.0, abs=1.0)


def test_times_that_jitter_by_a_block_do_no_harm() -> None:
    room = Room(gain=0.1, delay_ms=60.0, noise_dbfs=-60.0, seconds=4.0)
    examiner = Examiner(hears=True, speaks=True, told_ms=TOLD_MS)
    room.run(examiner, jitter_ms=10.0)
    assert examiner.verdict(underruns=0)["echo"]["delay_ms"] == pytest.approx(60.0, abs=10.0)


def test_the_microphone_is_repeated_after_the_chirps_with_the_stated_delay() -> None:
    room, verdict = examined(noise_dbfs=-40.0, seconds=6.0)
    loop_at = (LOOP_FRAME + 1) * FRAME_SAMPLES + PLAYED_AFTER_SAMPLES
    quiet = (CHIRP_FRAMES[-1] + 3) * FRAME_SAMPLES + PLAYED_AFTER_SAMPLES
    assert not room.played[quiet:loop_at].any()
    repeated = room.played[loop_at : loop_at + SAMPLE_RATE]
    delay = round(verdict["delay_ms"] * SAMPLE_RATE / 1000)
    source = loop_at - PLAYED_AFTER_SAMPLES - FRAME_SAMPLES - delay
    assert verdict["delay_ms"] == 640
    assert np.allclose(repeated, room.air[source : source + SAMPLE_RATE], atol=1e-6)


def test_a_clock_that_is_read_late_on_a_busy_machine_does_no_harm() -> None:
    room = Room(gain=0.1, delay_ms=60.0, noise_dbfs=-60.0, seconds=4.0)
    examiner = Examiner(hears=True, speaks=True, told_ms=TOLD_MS)
    room.run(examiner, late_ms=170.0)
    assert examiner.verdict(underruns=0)["echo"]["delay_ms"] == pytest.approx(60.0, abs=1.0)


@pytest.mark.parametrize(("gain", "repeats"), [(0.3, True), (1.0, False)])
def test_a_loop_that_would_howl_is_not_closed(gain: float, repeats: bool) -> None:
    room, _ = examined(gain=gain, seconds=6.0)
    loop_at = (LOOP_FRAME + 1) * FRAME_SAMPLES + PLAYED_AFTER_SAMPLES
    assert room.played[loop_at:].any() == repeats


def microphone(pcm: Samples, seconds: float = 3.0) -> dict[str, Any]:
    examiner = Examiner(hears=True, speaks=False, told_ms=0.0)
    frames = round(seconds / 0.08)
    for n in range(frames):
        piece = np.resize(pcm, (frames, FRAME_SAMPLES))[n].astype(np.float32)
        examiner.hear(Heard(piece, n * FRAME_SAMPLES, (n + 1) * FRAME_NS))
    verdict = examiner.verdict(underruns=0)
    assert verdict["speaker"] is None
    assert verdict["echo"] is None
    assert verdict["ok"] == verdict["microphone"]["ok"]
    told: dict[str, Any] = verdict["microphone"]
    return told


SOUND = np.random.default_rng(2).standard_normal(40 * FRAME_SAMPLES)


@pytest.mark.parametrize(
    ("pcm", "reason", "ok"),
    [
        (0.05 * SOUND, "ok", True),
        (np.zeros(FRAME_SAMPLES), "silent", False),
        (1e-5 * SOUND, "quiet", True),
        (np.clip(3.0 * SOUND, -1, 1), "clips", False),
        (np.where(np.arange(SOUND.size) // FRAME_SAMPLES % 4, SOUND * 0.05, 0), "drops_out", True),
    ],
)
def test_the_verdict_on_a_microphone(pcm: Samples, reason: str, ok: bool) -> None:
    told = microphone(pcm)
    assert (told["reason"], told["ok"]) == (reason, ok)
    assert (told["hint"] is None) == (reason == "ok")


def test_silence_to_the_bit_points_to_the_permission_on_macos() -> None:
    hint = microphone(np.zeros(FRAME_SAMPLES, dtype=np.float32))["hint"]
    assert ("Privacy" in hint) == (sys.platform == "darwin")
    assert "zeros" in hint


def test_a_speaker_that_was_fed_late_stutters() -> None:
    examiner = Examiner(hears=False, speaks=True, told_ms=5.0)
    assert examiner.verdict(underruns=2)["ok"]
    verdict = examiner.verdict(underruns=3)
    assert (verdict["ok"], verdict["speaker"]["reason"]) == (False, "stutters")


def test_who_hears_nothing_cannot_tell_of_an_echo() -> None:
    room = Room(gain=0.0, delay_ms=0.0, noise_dbfs=-60.0, seconds=3.0)
    examiner = Examiner(hears=True, speaks=True, told_ms=TOLD_MS)
    room.run(examiner, zero=True)
    verdict = examiner.verdict(underruns=0)
    assert verdict["microphone"]["reason"] == "silent"
    assert verdict["echo"]["heard"] is None


def test_too_short_a_check_says_nothing_of_the_echo() -> None:
    _, verdict = examined(gain=0.5, seconds=0.6)
    assert verdict["echo"]["heard"] is None
    check = SoundCheck()
    assert check.heard is None
    assert check.echo is None
