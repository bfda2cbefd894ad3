"""The rings that the callback in C serves, without a sound card: what it does is done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moshid.audio.callback_c import CallbackClock, Heard, TimeLine
from moshid.audio.ring import Samples

RATE = 24_000.0
BLOCK = 240
MS = 1_000_000


class Device:
    """rtmixer's stream as far as the rings know it; ``play`` and ``hear`` are its callback."""

    def __init__(self) -> None:
        self.rings: dict[str, Any] = {}

    def play_ringbuffer(self, ring: Any) -> str:
        self.rings["play"] = ring
        return "play"

    def record_ringbuffer(self, ring: Any) -> str:
        self.rings["record"] = ring
        return "record"

    def play(self, blocks: int = 1) -> Samples:
        """What the device plays next, its first channel."""
        ring = self.rings["play"]
        channels = ring.elementsize // 4
        taken = np.frombuffer(ring.read(BLOCK * blocks), dtype=np.float32)
        first: Samples = taken.reshape(-1, channels)[:, 0].copy()
        return first

    def hear(self, samples: Samples, channels: int) -> int:
        """The device brings this on every channel; how much found room."""
        block = np.repeat(samples[:, None], channels, axis=1)
        return int(self.rings["record"].write(block))


def tone(n: int, at: int = 0) -> Samples:
    angles = 2 * np.pi * 200 * np.arange(at, at + n) / RATE
    return np.asarray(0.5 * np.sin(angles), dtype=np.float32)


def test_what_is_written_is_played_in_order_and_silence_without_end_behind_it() -> None:
    device = Device()
    line = TimeLine(device, RATE, 2)
    line.write(tone(3 * BLOCK))
    line.write(tone(2 * BLOCK, 3 * BLOCK))
    assert np.array_equal(device.play(5), tone(5 * BLOCK))
    fade = device.play()
    assert np.abs(np.diff(np.concatenate((tone(5 * BLOCK)[-1:], fade)))).max() < 0.05, "no click"
    for _ in range(2 * line.capacity // BLOCK):
        line.lay()
        assert not device.play().any()
    assert line.played == 6 * BLOCK + 2 * line.capacity // BLOCK * BLOCK


def test_counters_are_those_of_a_ring() -> None:
    device = Device()
    line = TimeLine(device, RATE, 1)
    device.play(3)
    line.lay()
    assert (line.underrun, line.read_total, len(line)) == (3 * BLOCK, 0, 0)
    assert line.write(tone(2 * BLOCK)) == 2 * BLOCK
    device.play(1)
    line.lay()
    assert (line.written, line.underrun, line.read_total) == (2 * BLOCK, 3 * BLOCK, BLOCK)
    assert (len(line), line.played) == (BLOCK, 4 * BLOCK)


def test_what_does_not_fit_is_refused_and_counted() -> None:
    line = TimeLine(Device(), RATE, 1)
    assert line.write(np.ones(line.capacity + 100, np.float32)) == line.capacity
    assert line.overrun == 100
    assert len(line) == line.capacity


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_heard_comes_as_one_channel(channels: int) -> None:
    device = Device()
    heard = Heard(device, RATE, channels)
    device.hear(tone(2 * BLOCK), channels)
    assert heard.total == 2 * BLOCK
    assert len(heard) == 0, "nobody has looked"
    heard.pull()
    taken = heard.take(2 * BLOCK)
    assert taken is not None
    assert np.allclose(taken, tone(2 * BLOCK))


def test_a_ring_that_nobody_empties_holds_four_seconds_and_no_more() -> None:
    device = Device()
    heard = Heard(device, RATE, 1)
    took = [device.hear(tone(BLOCK), 1) for _ in range(1000)]
    assert 4 * RATE <= sum(took) <= 8 * RATE
    heard.pull()
    assert len(heard) == sum(took)


def test_the_clock_finds_the_callbacks_time_among_late_looks() -> None:
    clock = CallbackClock(RATE)
    rng = np.random.default_rng(2)
    errors = []
    for block in range(1, 1000):
        came_ns = block * 10 * MS
        clock.note(came_ns + int(rng.integers(0, 9 * MS)), block * BLOCK)
        errors.append(abs(clock.time_ns() - came_ns) / MS)
    assert max(errors[200:]) < 0.5


def test_a_clock_that_stood_still_is_right_again_at_once() -> None:
    clock = CallbackClock(RATE)
    for block in range(1, 300):
        clock.note(block * 10 * MS, block * BLOCK)
    for block in range(300, 310):
        clock.note(block * 10 * MS + 2000 * MS, block * BLOCK)
        assert clock.time_ns() == block * 10 * MS + 2000 * MS


def test_a_clock_told_of_a_lost_block_goes_by_the_new_beat_at_once() -> None:
    clock = CallbackClock(RATE)
    for block in range(1, 300):
        clock.note(block * 10 * MS, block * BLOCK)
    clock.restart()
    for block in range(300, 310):
        clock.note(block * 10 * MS + 18 * MS, block * BLOCK)
        assert clock.time_ns() == block * 10 * MS + 18 * MS
