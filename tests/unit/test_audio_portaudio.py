"""A stream's health and its positions, with a sound card that does as it is told."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from moshid.audio.device_list import Device
from moshid.audio.portaudio import AWAY_NS, CALLBACK_AGE_NS_MAX, START_NS_MAX, PortAudioStream
from moshid.audio.ring import Ring
from moshid.errors import DeviceFailed

MS = 1_000_000
RATE = 24_000
LOOK_NS = 80 * MS


class Card:
    """PortAudio's stream."""

    samplerate = RATE
    latency: tuple[float, float] | float = (0.01, 0.02)
    active = True
    closed = False

    def start(self) -> None:
        """It runs."""

    def close(self, *, ignore_errors: bool) -> None:
        """It ends."""
        self.closed = ignore_errors


class Told:
    """The callback, at the test's word."""

    made: ClassVar[list[Told]] = []

    def __init__(self, _in: int | None, _out: int | None, options: dict[str, Any]) -> None:
        self.stream = Card()
        self.options = options
        self.heard, self.to_play = Ring(RATE), Ring(RATE)
        self.heard_total = self.played = self.stamp_ns = self.xruns = 0
        self.running = True
        self.begun_anew = 0
        self.meanwhile: list[int] = []
        Told.made.append(self)

    def look(self, now_ns: int, *, anew: bool) -> int:  # noqa: ARG002
        """The samples that have gone by; more may come just then."""
        self.begun_anew += anew
        for samples in self.meanwhile:
            self.come(samples)
        self.meanwhile.clear()
        return self.heard_total

    def come(self, samples: int) -> None:
        """The device brings and takes so many."""
        self.heard_total += samples
        self.played += samples


def device(api: str = "JACK Audio Connection Kit") -> Device:
    return Device(0, "card", api, 2, float(RATE), default=True)


def opened(api: str = "JACK Audio Connection Kit") -> tuple[PortAudioStream, Told]:
    stream = PortAudioStream(device(api), device(api), callback=Told)
    return stream, Told.made[-1]


def look_for(stream: PortAudioStream, told: Told, seconds: float, *, coming: bool) -> int:
    """Look each 80 ms; returns when the last look was."""
    now_ns = stream._looked_ns
    for _ in range(round(seconds * 1e9 / LOOK_NS)):
        if coming:
            told.come(RATE * LOOK_NS // 10**9)
        now_ns += LOOK_NS
        stream.check(now_ns)
    return now_ns


def test_a_callback_that_stops_coming_is_noticed_within_its_second() -> None:
    stream, told = opened()
    now_ns = look_for(stream, told, 2.0, coming=True)
    look_for(stream, told, CALLBACK_AGE_NS_MAX / 1e9 - 0.08, coming=False)
    with pytest.raises(DeviceFailed, match="stopped coming"):
        stream.check(now_ns + CALLBACK_AGE_NS_MAX + LOOK_NS)
    stream.close()
    assert not told.stream.closed, "PortAudio's JACK part would wait for ever"


def test_who_was_stopped_does_not_take_that_for_the_devices_death() -> None:
    stream, told = opened()
    now_ns = look_for(stream, told, 2.0, coming=True)
    stream.check(now_ns + 2 * CALLBACK_AGE_NS_MAX)
    look_for(stream, told, 0.5, coming=True)
    assert stream.played == told.played


def test_a_device_may_take_its_time_to_begin() -> None:
    stream, told = opened()
    look_for(stream, told, START_NS_MAX / 1e9 - 0.1, coming=False)
    with pytest.raises(DeviceFailed):
        stream.check(stream._looked_ns + AWAY_NS)


def test_a_ring_that_ran_over_a_stream_that_ended_and_a_closed_one_are_told_apart() -> None:
    stream, told = opened()
    told.running = False
    with pytest.raises(DeviceFailed, match="nobody took"):
        stream.check(stream._looked_ns + LOOK_NS)
    told.stream.active = False
    with pytest.raises(DeviceFailed, match="has gone"):
        stream.check(stream._looked_ns)
    stream.close()
    with pytest.raises(DeviceFailed, match="is closed"):
        stream.check(stream._looked_ns)


def test_both_positions_are_of_one_moment() -> None:
    stream, told = opened()
    told.come(480)
    told.meanwhile = [240]
    assert stream.base() == (720, 720)
    told.come(240)
    assert stream.base() == (720, 720), "the first call says when the clock started"


def test_short_blocks_where_they_are_steady_and_ten_ms_elsewhere() -> None:
    assert opened("Core Audio")[1].options["blocksize"] == 0
    assert opened("ALSA")[1].options["blocksize"] == RATE // 100
    assert opened("ALSA")[0].latency_s == pytest.approx(0.03)


def test_a_stream_that_lost_sound_is_looked_at_often_again() -> None:
    stream, told = opened()
    look_for(stream, told, 4.0, coming=True)
    assert not stream.is_new
    told.xruns += 1
    look_for(stream, told, 0.08, coming=True)
    assert stream.is_new
    look_for(stream, told, 4.0, coming=True)
    assert not stream.is_new
    assert told.begun_anew == 1


def test_a_latency_that_cannot_be_is_left_out() -> None:
    stream, told = opened()
    assert stream.latency_s == pytest.approx(0.03)
    for unknown in (2**32 / RATE, -1.0, float("nan")):
        told.stream.latency = (unknown, 0.02)
        assert stream.latency_s == pytest.approx(0.02)
        told.stream.latency = unknown
        assert stream.latency_s == 0.0
