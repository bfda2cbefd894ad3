"""Mute, push-to-talk, volume, pause: the set, the ramps, and what a session does of it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from moshid.audio.controls import Controls
from moshid.audio.conversation import Conversation
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.gain import RAMP_SAMPLES, Gain
from moshid.audio.request import ControlChanges, parse
from moshid.audio.ring import Samples
from moshid.audio.session import Plan, Session
from moshid.audio.speech import EnergyDetector
from moshid.errors import InvalidParams
from tests.fakes.audio_ends import ListedSink, ListedSource

ONES: Samples = np.full(FRAME_SAMPLES, 0.5, dtype=np.float32)


def changes(**given: Any) -> ControlChanges:
    return parse(given, ControlChanges)


@pytest.mark.parametrize(
    ("given", "hears"),
    [
        ({}, True),
        ({"muted": True}, False),
        ({"push_to_talk": True}, False),
        ({"push_to_talk": True, "talking": True}, True),
        ({"push_to_talk": True, "talking": True, "muted": True}, False),
        ({"talking": True}, True),
        ({"paused": True}, False),
        ({"volume": 0.0}, True),
    ],
)
def test_when_the_model_hears(given: dict[str, Any], hears: bool) -> None:
    assert Controls().changed(changes(**given)).hears is hears


def test_what_is_left_out_stays_and_push_to_talk_begins_with_the_key_up() -> None:
    controls = Controls().changed(changes(muted=True, volume=0.5, talking=True))
    controls = controls.changed(changes(push_to_talk=True))
    assert controls.to_dict() == {
        "muted": True,
        "push_to_talk": True,
        "talking": False,
        "volume": 0.5,
        "paused": False,
        "hears": False,
    }
    held = controls.changed(changes(talking=True)).changed(changes(push_to_talk=True))
    assert held.talking, "it was on already: the key stays as it is"


@pytest.mark.parametrize("wrong", [{"volume": 2.1}, {"volume": -0.1}, {"muted": 1}, {"loud": True}])
def test_bad_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams):
        changes(**wrong)


def test_a_gain_that_does_not_change_touches_nothing() -> None:
    assert Gain(1.0).apply(ONES) is ONES
    assert not Gain(0.0).apply(ONES).any()
    assert np.allclose(Gain(2.0).apply(ONES), 1.0)


def test_a_change_begins_at_its_sample_and_ramps_for_10_ms() -> None:
    gain = Gain(1.0)
    end_ns = 10 * FRAME_NS
    at = 700
    gain.change(0.0, end_ns - (FRAME_SAMPLES - at) * 1_000_000_000 // SAMPLE_RATE)
    out = gain.apply(ONES, end_ns)
    assert np.array_equal(out[:at], ONES[:at])
    assert not out[at + RAMP_SAMPLES :].any(), "digital silence"
    assert np.abs(np.diff(out)).max() <= 0.5 / RAMP_SAMPLES + 1e-6, "no step, no click"
    assert gain.settled


def test_a_ramp_goes_on_over_the_end_of_a_frame() -> None:
    gain = Gain(0.0)
    gain.change(1.0, FRAME_NS - 2_000_000)
    first = gain.apply(ONES, FRAME_NS)
    assert not gain.settled
    second = gain.apply(ONES, 2 * FRAME_NS)
    whole = np.concatenate((first, second))
    assert np.abs(np.diff(whole)).max() <= 0.5 / RAMP_SAMPLES + 1e-6
    assert np.allclose(whole[FRAME_SAMPLES + RAMP_SAMPLES :], 0.5)
    assert first[-1] == pytest.approx(0.5 * 48 / RAMP_SAMPLES)


def test_a_change_to_come_waits_for_its_frame_and_two_in_one_frame_both_count() -> None:
    gain = Gain(1.0)
    gain.change(0.0, FRAME_NS + 10_000_000)
    gain.change(1.0, FRAME_NS + 50_000_000)
    assert np.array_equal(gain.apply(ONES, FRAME_NS), ONES)
    out = gain.apply(ONES, 2 * FRAME_NS)
    assert out[0] == out[-1] == 0.5
    assert not out[SAMPLE_RATE // 50 : SAMPLE_RATE // 20].any()


def test_twice_as_loud_stays_within_full_scale() -> None:
    gain = Gain(1.0)
    gain.change(2.0, 0)
    out = gain.apply(ONES * 1.5)
    assert out.max() == 1.0


class Rig:
    """A session that is an echo, fed frame by frame."""

    def __init__(self, pause_s_max: float = 0.0) -> None:
        self.source = ListedSource()
        self.sink = ListedSink(self.source.origin_ns)
        self.levels: list[dict[str, Any]] = []
        self.session = Session(
            Plan("s1", 1, 0),
            self.source,
            self.sink,
            lambda name, data: self.levels.append(data) if name == "level" else None,
            codec=None,
            link=None,
            conversation=Conversation(detector=EnergyDetector(), pause_s_max=pause_s_max),
        )

    def frames(self, n: int) -> None:
        for _ in range(n):
            self.source.give(ONES)
            self.session.step()

    def set(self, **given: Any) -> dict[str, Any]:
        """At the session's present moment, so that the next frame is the first to feel it."""
        self.source.origin_ns = time.monotonic_ns() - self.source.frames * FRAME_NS
        return self.session.set(changes(**given))


def test_muted_the_model_hears_silence_of_the_same_length() -> None:
    rig = Rig()
    rig.frames(2)
    assert rig.set(muted=True)["hears"] is False
    rig.frames(3)
    assert rig.set(muted=False)["hears"] is True
    rig.frames(2)
    positions = [position // FRAME_SAMPLES for position, _ in rig.sink.played]
    assert positions == list(range(7)), "the clock goes on"
    sound = rig.sink.sound().reshape(7, FRAME_SAMPLES)
    assert np.array_equal(sound[1], ONES)
    assert not sound[3].any()
    assert not sound[4].any()
    assert np.array_equal(sound[6], ONES)
    assert np.abs(np.diff(sound.ravel())).max() <= 0.5 / RAMP_SAMPLES + 1e-6
    assert rig.session.stats()["lagged_frames"] == 0


def test_volume_changes_what_is_played() -> None:
    rig = Rig()
    rig.set(volume=0.5)
    rig.frames(2)
    assert np.allclose(rig.sink.played[1][1], 0.25)


def test_a_pause_fades_out_sends_nothing_and_goes_on_where_it_was() -> None:
    rig = Rig()
    rig.frames(2)
    assert rig.set(paused=True)["paused"] is True
    rig.frames(5)
    stats = rig.session.stats()
    assert [p // FRAME_SAMPLES for p, _ in rig.sink.played] == [0, 1, 2], "one more, faded out"
    assert not rig.sink.played[2][1][-1000:].any()
    assert (stats["frames"], stats["lagged_frames"]) == (7, 0)
    assert stats["controls"]["paused"]
    rig.set(paused=False)
    rig.frames(2)
    assert rig.sink.rests == 1, "the speaker knows that the gap was meant"
    assert [p // FRAME_SAMPLES for p, _ in rig.sink.played][3:] == [7, 8]
    assert np.array_equal(rig.sink.played[-1][1], ONES)
    assert rig.sink.played[3][1][0] < 0.01, "it comes back with a ramp"


def test_a_pause_in_which_the_microphone_is_muted_fades_the_voice_too() -> None:
    rig = Rig()
    rig.frames(1)
    rig.set(muted=True)
    rig.frames(3)
    rig.set(paused=True)
    rig.frames(3)
    assert len(rig.sink.played) == 5, "one frame more, so that its answer can fade"


def test_a_pause_that_is_too_long_ends_the_talk() -> None:
    rig = Rig(pause_s_max=1e-9)
    rig.frames(1)
    rig.set(paused=True)
    rig.frames(2)
    assert rig.session.ended == "paused"


def test_levels_say_who_speaks_and_how_loud() -> None:
    rig = Rig()
    rig.frames(1)
    first = rig.levels[0]
    assert first["input_dbfs"] == pytest.approx(-6.0, abs=0.1)
    assert first["input_peak_dbfs"] == pytest.approx(-6.0, abs=0.1)
    assert (first["output_dbfs"], first["output_peak_dbfs"]) == (-120.0, -120.0)
    assert (first["frame"], first["t_s"]) == (0, 0.08)
    assert set(first) == {
        *("session", "frame", "t_s", "input_dbfs", "input_peak_dbfs", "output_dbfs"),
        *("output_peak_dbfs", "speech_probability", "user_speaking", "moshi_speaking"),
        *("silent_input", "encode_ms", "step_ms", "decode_ms"),
    }
    rig.frames(1)
    stats = rig.session.stats()
    assert stats["output_dbfs"] == pytest.approx(-6.0, abs=0.1), "heard by now"
