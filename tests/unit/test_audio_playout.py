"""When answers are played, in virtual time: a speaker that takes 10 ms blocks and never waits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.playout import (
    ANY_TIME,
    CROSS_FADE_SAMPLES,
    MARGIN_SAMPLES,
    STEADY_MARGIN_SAMPLES,
    TOLERANCE_SAMPLES,
    Beat,
    Playout,
    cut_quietly,
)
from moshid.audio.ring import Ring, Samples

BLOCK = 240
SECOND_FRAMES = 12
CLICK = 0.08
"""A step between two samples that the tone (0.02) does not make, nor a fade of it."""


def tone(position: int, n: int = FRAME_SAMPLES) -> Samples:
    """A piece of one long sine, so that order and gaps show in the output."""
    t = np.arange(position, position + n) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 150 * t)).astype(np.float32)


class Speaker:
    """Plays answers; ``delay`` says how long after a frame's capture its answer arrives."""

    def __init__(self, playout: Playout, *, beat: bool = False) -> None:
        self.playout = playout
        self.beat = beat
        self.ring = Ring(4 * SAMPLE_RATE)
        self.sound: list[Samples] = []
        self.offsets: list[int | None] = []

    def run(self, frames: int, delay: Callable[[int], int]) -> Samples:
        arrivals = sorted((f * FRAME_SAMPLES + delay(f), f) for f in range(frames))
        for played in range(0, (frames + 40) * FRAME_SAMPLES, BLOCK):
            while arrivals and arrivals[0][0] <= played:
                at, frame = arrivals.pop(0)
                self._answer(frame * FRAME_SAMPLES, since=at - (played - BLOCK))
            block = np.empty(BLOCK, dtype=np.float32)
            self.ring.read_into(block)
            self.sound.append(block)
        return np.concatenate(self.sound)

    def _answer(self, position: int, since: int) -> None:
        played = self.ring.read_total + self.ring.underrun
        if not self.playout.too_late(position, played):
            head = self.ring.written + self.ring.underrun
            beat = Beat(BLOCK, since) if self.beat else ANY_TIME
            placed = self.playout.place(
                tone(position), position, head=head, played=played, beat=beat
            )
            self.ring.write(placed)
        self.offsets.append(self.playout.offset)


@given(
    block=st.integers(1, 2000),
    slack=st.integers(-500, 4000),
    ahead=st.integers(-3000, 3000),
    data=st.data(),
)
def test_a_beat_s_distance_is_the_least_that_leaves_the_time(
    block: int, slack: int, ahead: int, data: st.DataObject
) -> None:
    beat = Beat(block, data.draw(st.integers(0, block)))
    least = beat.ahead(slack)
    assert beat.slack(least) >= slack
    assert least == 0 or beat.slack(least - block) < slack
    takes = (block - beat.since) + block * (ahead // block)  # the next block is taken then
    assert beat.slack(ahead) == takes


@pytest.mark.parametrize("phase", range(0, BLOCK, 40))
def test_where_the_beat_is_known_answers_are_played_at_the_next_block_that_is_safe(
    phase: int,
) -> None:
    rng = np.random.default_rng(phase)
    late = [phase + int(j) for j in rng.integers(0, 96, size=200)]
    offsets = {}
    for beat in (True, False):
        speaker = Speaker(Playout(), beat=beat)
        speaker.run(200, lambda f: FRAME_SAMPLES + 1200 + late[f])
        assert speaker.playout.late_frames == 0
        assert (speaker.playout.gaps, speaker.playout.cuts) <= (1, 1), "at first, if ever"
        offsets[beat] = int(speaker.offsets[-1] or 0)
    worst = FRAME_SAMPLES + 1200 + max(late)
    assert worst <= offsets[True] < worst + STEADY_MARGIN_SAMPLES + BLOCK
    assert offsets[True] <= offsets[False]


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
    moved, calm = speaker.offsets[24], speaker.offsets[20 + SECOND_FRAMES]
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


def steps(sound: Samples) -> float:
    """The largest step between neighbouring samples."""
    return float(np.abs(np.diff(sound)).max())


def test_after_a_burst_of_lateness_the_delay_is_back_within_a_second() -> None:
    def delay(frame: int) -> int:
        return FRAME_SAMPLES + 1200 + ((frame - 39) * 500 if 40 <= frame < 50 else 0)

    speaker = Speaker(Playout())
    speaker.run(120, delay)
    usual, worst = speaker.offsets[39], speaker.offsets[49]
    assert usual is not None
    assert worst is not None
    assert worst >= usual + 4_000, "two frames and more"
    # The end of what was late already was captured a third of a second before it was heard.
    assert speaker.offsets[50 + SECOND_FRAMES] == pytest.approx(usual, abs=BLOCK)


def test_who_is_late_again_and_again_is_waited_for_longer() -> None:
    speaker = Speaker(Playout())
    speaker.run(400, lambda f: FRAME_SAMPLES + 1200 + (1000 if f % 20 == 0 and f else 0))
    assert speaker.playout.gaps <= 6, "not twenty times"


def test_some_milliseconds_are_not_worth_a_gap_every_few_seconds() -> None:
    """Every six seconds an answer is late by 15 ms: that much delay stays in the end."""
    speaker = Speaker(Playout())
    speaker.run(2000, lambda f: FRAME_SAMPLES + 1200 + (600 if f % 75 == 0 and f else 0))
    assert speaker.playout.gaps <= 9, "not 26 times"
    assert speaker.offsets[-1] == pytest.approx(FRAME_SAMPLES + 1800 + MARGIN_SAMPLES, abs=BLOCK)


@pytest.mark.parametrize("since", [10, 200])
def test_silence_since_nothing_had_come_is_counted_and_no_click(since: int) -> None:
    playout, beat = Playout(), Beat(BLOCK, since)
    head = 2_400 + len(playout.place(tone(0) + 0.5, 0, head=2_400, played=2_400, beat=beat))
    played = head + BLOCK
    late = playout.place(tone(0) + 0.5, FRAME_SAMPLES, head=played, played=played, beat=beat)
    sound = late[np.flatnonzero(late)[0] :]
    assert playout.gaps == 1
    assert abs(sound[0]) < 0.02
    assert steps(sound[: CROSS_FADE_SAMPLES + 10]) < CLICK


def test_answers_that_are_far_too_early_are_played_at_once_again() -> None:
    """The speaker stood still for two seconds, and what was heard meanwhile came at once."""
    playout = Playout()
    played = 0
    for frame in range(40):
        jump = 2 * SAMPLE_RATE if frame >= 20 else 0
        played = frame * FRAME_SAMPLES + FRAME_SAMPLES + 1200
        playout.place(tone(0), frame * FRAME_SAMPLES + jump, head=played, played=played)
    assert playout.offset is not None
    assert playout.offset + 2 * SAMPLE_RATE == pytest.approx(
        FRAME_SAMPLES + 1200 + MARGIN_SAMPLES, abs=BLOCK
    )


def test_no_joint_is_a_click() -> None:
    late = {20: 900, 60: 3 * FRAME_SAMPLES, 61: 2 * FRAME_SAMPLES, 62: FRAME_SAMPLES}
    speaker = Speaker(Playout())
    sound = speaker.run(140, lambda f: FRAME_SAMPLES + 1200 + late.get(f, 0))
    assert speaker.playout.gaps >= 2
    assert speaker.playout.late_frames >= 1
    ends = np.flatnonzero((sound[:-1] != 0) & (sound[1:] == 0))
    for n, at in enumerate(ends):  # where a sound ends, a callback in C has a fade behind it
        sound[at + 1] = sound[at] if n == 0 or at - ends[n - 1] > 2 else 0.0
    risen = np.flatnonzero((sound[:-1] == 0) & (sound[1:] != 0))
    for at in risen:
        assert steps(sound[at : at + CROSS_FADE_SAMPLES + 10]) < CLICK


def test_answers_with_some_of_the_past_missing_are_cross_faded() -> None:
    playout = Playout(offset=0)
    first = playout.place(tone(0), 0, head=0, played=0)
    skipped = playout.place(tone(9_000), 3 * FRAME_SAMPLES, head=3 * FRAME_SAMPLES, played=0)
    joint = np.concatenate((first, skipped))
    assert steps(joint[len(first) - 10 : len(first) + 200]) < CLICK
    assert np.array_equal(skipped[CROSS_FADE_SAMPLES:], tone(9_000)[CROSS_FADE_SAMPLES:])


@pytest.mark.parametrize("early", [0, 1, 20, 119, 300])
def test_the_fade_before_a_gap_is_whole_on_two_clocks_too(early: int) -> None:
    """There the queue's end is known to some samples only, and may seem to lie before the sound."""
    playout = Playout()
    first = playout.place(tone(0) + 0.3, 0, head=0, played=0)
    head = len(first) - early
    after_a_lost_one = playout.place(tone(0) + 0.3, 2 * FRAME_SAMPLES, head=head, played=head - 500)
    assert playout.gaps == 1
    assert steps(np.concatenate([first, after_a_lost_one])[MARGIN_SAMPLES + 1 :]) < CLICK


def late_twice(since: int, late: int) -> tuple[Playout, list[Samples]]:
    """Three answers, the second and the third when their turn has been taken for ``late``."""
    playout, beat = Playout(), Beat(BLOCK, since)
    placed = [playout.place(tone(0), 0, head=0, played=0, beat=beat)]
    for n in (1, 2):
        played = sum(map(len, placed)) + late
        frame = n * FRAME_SAMPLES
        placed.append(playout.place(tone(frame), frame, head=played, played=played, beat=beat))
    return playout, placed


@pytest.mark.parametrize("since", [0, 1, 120])
@pytest.mark.parametrize("late", [1, 100, BLOCK])
def test_whose_turn_has_just_been_taken_is_late_and_loses_nothing_twice(
    since: int, late: int
) -> None:
    playout, placed = late_twice(since, late)
    missing = late if late > TOLERANCE_SAMPLES else 0
    assert len(placed[1]) == FRAME_SAMPLES - missing, "the first keeps the delay"
    assert len(placed[2]) >= FRAME_SAMPLES, "the second has it moved"
    assert playout.cuts == bool(missing)


def test_an_answer_that_is_late_once_in_ten_seconds_leaves_the_delay_as_it_is() -> None:
    speaker = Speaker(Playout())
    speaker.run(500, lambda f: FRAME_SAMPLES + 1200 + (500 if f in (100, 225, 350) else 0))
    usual = FRAME_SAMPLES + 1200 + MARGIN_SAMPLES
    assert speaker.offsets == [usual] * 500
    assert speaker.playout.gaps == speaker.playout.cuts == 3
    sound = np.concatenate(speaker.sound)
    assert np.array_equal(
        sound[usual + 101 * FRAME_SAMPLES : usual + 225 * FRAME_SAMPLES],
        tone(101 * FRAME_SAMPLES, 124 * FRAME_SAMPLES),
    ), "the answer after it has its turn"


def test_a_second_late_answer_soon_after_the_first_moves_the_delay() -> None:
    speaker = Speaker(Playout())
    speaker.run(200, lambda f: FRAME_SAMPLES + 1200 + (500 if f in (100, 150) else 0))
    usual = FRAME_SAMPLES + 1200 + MARGIN_SAMPLES
    assert speaker.offsets[:150] == [usual] * 150
    assert (speaker.offsets[150] or 0) > usual
