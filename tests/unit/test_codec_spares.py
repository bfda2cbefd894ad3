"""Spares of a codec whose objects last for so many frames: begun, led along, swapped, replaced."""

from __future__ import annotations

import numpy as np
import pytest

from moshid.audio.codec import Tokens
from moshid.audio.codec_spares import Life, Spares
from moshid.audio.ring import Samples
from moshid.errors import BadCheckpoint, CodecDied
from tests.fakes.codec_hosts import CONTEXT_FRAMES, FakeHost, Hosts

LIFE = Life(frames_max=100, begin=70, primed=20)
TABLE_FRAMES = 4096


def sound(frame: int) -> Samples:
    return np.array([frame, -frame], np.float32)


def talk(codec: Spares | FakeHost, frames: range) -> list[tuple[Tokens, float]]:
    """Each frame is encoded, and what was said two frames before is decoded."""
    answers = []
    for frame in frames:
        tokens = codec.encode(sound(frame))
        pcm = codec.decode((frame - 2,)) if frame >= 2 else sound(0)
        answers.append((tokens, float(pcm[0])))
    return answers


def test_4200_frames_and_more_pass_and_no_answer_shows_a_swap() -> None:
    frames = range(2 * TABLE_FRAMES + 200)
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    assert talk(spares, frames) == talk(FakeHost(len(frames)), frames)
    # Each object answers from where it had heard `primed` frames to where the next has.
    assert spares.swaps == pytest.approx(len(frames) / 70, rel=0.02)
    assert max(host.waits for host in hosts.made[1:]) == 0, "nobody waited for a spare"
    assert all(host.closed for host in hosts.made[:-2])


def by_halves(codec: Spares, frames: range) -> list[tuple[Tokens, float]]:
    """The same, but each frame is begun before the one before the last is decoded."""
    answers = []
    for frame in frames:
        codec.begin(sound(frame)[:1])
        pcm = codec.decode((frame - 2,)) if frame >= 2 else sound(0)
        answers.append((codec.encode(sound(frame)[1:]), float(pcm[0])))
    return answers


def test_a_swap_in_the_midst_of_a_frame_shows_no_more() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    assert by_halves(spares, range(400)) == talk(FakeHost(400), range(400))
    assert spares.swaps >= 5


def test_one_that_dies_with_half_a_frame_leaves_it_to_its_successor() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    by_halves(spares, range(75))
    assert spares.has_spare
    spares.begin(sound(75)[:1])
    hosts.made[0].dead = True
    heard_by_the_spare = FakeHost(400)
    for frame in range(70, 75):
        heard_by_the_spare.encode(sound(frame))
    assert spares.encode(sound(75)[1:]) == heard_by_the_spare.encode(sound(75))
    assert (spares.deaths, spares.active) == (1, hosts.made[1])

    spares.begin(sound(76)[:1])
    spares.start_afresh()
    assert spares.encode(sound(0)) == FakeHost(400).encode(sound(0)), "the half is forgotten, too"


def test_a_spare_that_heard_less_than_the_context_would_show() -> None:
    """Whether the test above can fail."""
    hosts = Hosts(LIFE.frames_max)
    short = Life(LIFE.frames_max, LIFE.begin, primed=CONTEXT_FRAMES // 2)
    frames = range(300)
    assert talk(Spares(hosts, short), frames) != talk(FakeHost(len(frames)), frames)


def test_a_spare_that_is_late_takes_the_place_at_the_end_and_is_waited_for() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    hosts.behind = True
    answers = talk(spares, range(150))
    assert answers == talk(FakeHost(150), range(150))
    assert spares.swaps == 1
    assert hosts.made[0].encoded == LIFE.frames_max
    assert hosts.made[1].waits == 1


def test_one_direction_alone_is_enough_to_come_to_the_end() -> None:
    """A model that is silent, or gone: nothing is decoded."""
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    for frame in range(250):
        spares.encode(sound(frame))
    assert spares.swaps == 3
    assert all(host.encoded <= LIFE.frames_max for host in hosts.made)


def test_the_place_of_one_that_dies_is_taken_and_the_frame_is_answered() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    talk(spares, range(10))
    hosts.made[0].dead = True
    assert len(talk(spares, range(10, 20))) == 10
    assert (spares.deaths, len(hosts.made)) == (1, 2)
    assert hosts.made[0].closed

    talk(spares, range(20, 85))
    assert spares.has_spare
    hosts.made[1].dead = True
    talk(spares, range(85, 90))
    assert spares.active is hosts.made[2], "the spare, which has heard something at least"


def test_when_its_successor_dies_too_the_error_is_told() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    hosts.made[0].dead = hosts.bad = True
    with pytest.raises(CodecDied, match="no codec"):
        spares.encode(sound(0))
    assert hosts.made[1].closed


def test_a_spare_that_dies_is_replaced_by_another() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, Life(LIFE.frames_max, begin=40, primed=20))
    talk(spares, range(45))
    hosts.made[1].dead = True
    answers = talk(spares, range(45, 120))
    assert hosts.made[1].closed
    assert spares.active is hosts.made[2]
    assert answers == talk(FakeHost(120), range(120))[45:]


def test_without_any_spare_a_fresh_one_takes_the_place_at_the_end() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    talk(spares, range(71))
    for frame in range(71, LIFE.frames_max):
        hosts.made[-1].dead = spares.has_spare
        talk(spares, range(frame, frame + 1))
    assert len(hosts.made) == 4, "the first, two spares in 29 frames, and what replaced it"
    assert len(talk(spares, range(LIFE.frames_max, 120))) == 20
    assert spares.swaps == 1


def test_a_new_talk_begins_with_one_that_has_heard_nothing() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    spares.start_afresh()
    assert len(hosts.made) == 1, "it was fresh already"
    first = talk(spares, range(80))
    spares.start_afresh()
    assert talk(spares, range(80)) == first
    spares.close()
    assert all(host.closed and host.ended for host in hosts.made[2:])


def test_in_a_talk_in_real_time_the_one_at_work_is_served_first_and_a_spare_is_not() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    spares.hurry()
    talk(spares, range(80))
    assert spares.has_spare
    assert [host.hurries for host in hosts.made] == [1, 0]
    talk(spares, range(80, 95))
    assert spares.active is hosts.made[1]
    assert [host.hurries for host in hosts.made] == [1, 1]


def test_one_that_died_before_the_talk_is_replaced_as_it_begins() -> None:
    hosts = Hosts(LIFE.frames_max)
    spares = Spares(hosts, LIFE)
    hosts.made[0].dead = True
    spares.hurry()
    assert spares.active is hosts.made[1]
    assert hosts.made[1].hurries >= 1


def test_a_checkpoint_that_is_none_is_told_at_once() -> None:
    hosts = Hosts(LIFE.frames_max)
    hosts.bad = True
    with pytest.raises(BadCheckpoint):
        Spares(hosts, LIFE)
    assert hosts.made[0].ended


def test_a_dead_codec_is_an_audio_error() -> None:
    assert CodecDied("x").to_data()["kind"] == "audio.codec_died"
