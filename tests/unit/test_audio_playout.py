"""When answers are played, in virtual time: a speaker that takes 10 ms blocks and never waits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.playout import MARGIN_SAMPLES, Playout, cut_quietly
from moshid.audio.ring import Ring, Samples

BLOCK = 240


def tone(position: int, n: int = FRAME_SAMPLES) -> Samples:
    """A piece of one long sine, so that order and gaps show in the output."""
    t = np.arange(position, position + n) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 150 * t)).astype(np.float32)


class Speaker:
    """Plays answers; ``delay`` says how long after a frame's capture its answer arrives."""

    def __init__(self, playout: Playout) -> None:
        self.playout = playout
        self.ring = Ring(4 * SAMPLE_RATE)
        self.sound: list[Samples] = []
        self.offsets: list[int | None] = []

    def run(self, frames: int, delay: Callable[[int], int]) -> Samples:
        arrivals = sorted((f * FRAME_SAMPLES + delay(f), f) for f in range(frames))
        for played in range(0, (frames + 40) * FRAME_SAMPLES, BLOCK):
            while arrivals and arrivals[0][0] <= played:
                self._answer(arrivals.pop(0)[1] * FRAME_SAMPLES)
            block = np.empty(BLOCK, dtype=np.float32)
            self.ring.read_into(block)
            self.sound.append(block)
        return np.concatenate(self.sound)

    def _answer(self, position: int) -> None:
        played = self.ring.read_total + self.ring.underrun
        if not self.playout.too_late(position, played):
            head = self.ring.written + self.ring.underrun
            self.ring.write(self.playout.place(tone(position), position, head=head, played=played))
        self.offsets.append(self.playout.offset)


def test_steady_answers_are_played_without_a_seam_at_one_delay() -> None:
    speaker = Speaker(Playout())
    sound = speaker.run(100, lambda _f: FRAME_SAMPLES + 1200)
    offset = FRAME_SAMPLES + 1200 + MARGIN_SAMPLES
    assert np.array_equal(sound[offset : offset + 100 * FRAME_SAMPLES], tone(0, 100 * 1920))
    assert speaker.playout.gaps == speaker.playout.cuts == speaker.playout.late_frames == 0


def test_jitter_below_the_margin_is_not_heard() -> None:
    speaker = Speaker(Playout())
    delays = np.random.default_rng(1).integers(0, MARGIN_SAMPLES, 100)
    delays[0] = 0
    speaker.run(100, lambda f: FRAME_SAMPLES + 1200 + int(delays[f]))
    assert speaker.playout.gaps == 0


def test_one_late_answer_moves_the_delay_and_calm_brings_it_back() -> None:
    speaker = Speaker(Playout())
    speaker.run(200, lambda f: FRAME_SAMPLES + 1200 + (1000 if f == 20 else 0))
    assert speaker.playout.gaps == 1
    assert speaker.playout.cuts == 1
    assert speaker.playout.late_frames == 0
    moved, calm = speaker.offsets[30], speaker.offsets[-1]
    assert moved is not None
    assert calm is not None
    assert moved > FRAME_SAMPLES + 1200 + MARGIN_SAMPLES + 500
    assert calm == pytest.approx(FRAME_SAMPLES + 1200 + MARGIN_SAMPLES, abs=BLOCK)


def test_a_stall_drops_what_is_too_late_and_keeps_the_delay() -> None:
    def delay(frame: int) -> int:
        resumed = 70 * FRAME_SAMPLES
        usual = FRAME_SAMPLES + 1200
        return max(usual, resumed - frame * FRAME_SAMPLES) if 40 <= frame < 70 else usual

    speaker = Speaker(Playout())
    sound = speaker.run(120, delay)
    assert speaker.offsets[-1] == speaker.offsets[0]
    assert 28 <= speaker.playout.late_frames <= 30
    start = (speaker.offsets[0] or 0) + 80 * FRAME_SAMPLES
    assert np.array_equal(sound[start : start + 40 * 1920], tone(80 * 1920, 40 * 1920))


def test_a_loop_that_became_slower_for_good_gets_a_new_delay() -> None:
    slower = 3 * FRAME_SAMPLES
    speaker = Speaker(Playout())
    speaker.run(120, lambda f: FRAME_SAMPLES + (0 if f < 40 else slower))
    assert 12 <= speaker.playout.late_frames <= 15
    assert speaker.offsets[-1] == pytest.approx(FRAME_SAMPLES + slower + MARGIN_SAMPLES, abs=BLOCK)


def test_a_cut_takes_the_quietest_piece_and_leaves_no_click() -> None:
    pcm = tone(0)
    pcm[800:1200] *= 0.001
    shorter = cut_quietly(pcm, 240)
    assert len(shorter) == FRAME_SAMPLES - 240
    assert np.array_equal(shorter[:790], pcm[:790])
    assert np.array_equal(shorter[-700:], pcm[-700:])
    assert np.abs(np.diff(shorter)).max() <= np.abs(np.diff(pcm)).max() + 1e-3


def test_a_cut_longer_than_the_frame_leaves_nothing() -> None:
    assert len(cut_quietly(tone(0), FRAME_SAMPLES)) == 0
    assert np.array_equal(cut_quietly(tone(0), 0), tone(0))
