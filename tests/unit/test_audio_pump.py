"""The frame loop's book-keeping, in virtual time."""

from __future__ import annotations

import pytest

from moshid.audio.frames import FRAME_SAMPLES, silence
from moshid.audio.pump import Pump
from moshid.ipc import FrameKind, TokenFrame

FRAME_MS = 80


def answer_to(frame: TokenFrame) -> TokenFrame:
    return TokenFrame(FrameKind.MODEL, frame.epoch, frame.frame, tokens=frame.tokens)


class Simulation:
    """A microphone on the beat and a model that takes ``step_ms``, one frame at a time."""

    def __init__(self, *, step_ms: int = 25) -> None:
        self.pump = Pump(epoch=1)
        self.step_ms = step_ms
        self.stalled = (0, 0)
        self.with_model: list[tuple[int, TokenFrame]] = []
        self.delays_ms: list[tuple[int, int]] = []

    def run(self, seconds: float) -> None:
        for now_ms in range(round(seconds * 1000)):
            if now_ms % FRAME_MS == 0:
                index = self.pump.captured_frames
                self.pump.captured(silence(), index * FRAME_SAMPLES, now_ms * 1_000_000)
            self._answer(now_ms)
            while (frame := self.pump.next_to_send()) is not None:
                wire = self.pump.sent(frame, (frame.frame % 2048,), now_ms * 1_000_000)
                self.with_model.append((self._ready_ms(now_ms), wire))
            assert self.pump.frames_in_flight <= 2

    def _ready_ms(self, now_ms: int) -> int:
        start = max([now_ms, *(ready for ready, _ in self.with_model)])
        begin, end = self.stalled
        ready = start + self.step_ms
        return ready if not begin <= ready < end else end + self.step_ms

    def _answer(self, now_ms: int) -> None:
        while self.with_model and self.with_model[0][0] <= now_ms:
            _ready, wire = self.with_model.pop(0)
            answer = self.pump.answered(answer_to(wire), now_ms * 1_000_000)
            assert answer is not None
            self.delays_ms.append((now_ms, now_ms - answer.capture_ns // 1_000_000))


def test_a_quick_model_answers_every_frame_at_once() -> None:
    simulation = Simulation()
    simulation.run(10)
    assert simulation.pump.lagged_frames == 0
    assert {delay for _now, delay in simulation.delays_ms} == {25}
    assert simulation.pump.step.percentiles() == {"p50": 25.0, "p95": 25.0}


def test_after_a_stall_the_delay_is_normal_again_and_the_skipped_are_counted() -> None:
    simulation = Simulation()
    simulation.stalled = (3000, 5000)
    simulation.run(10)
    # Of 25 frames captured meanwhile two were in flight and two waited; the others are skipped.
    assert 20 <= simulation.pump.lagged_frames <= 22
    late = [now for now, delay in simulation.delays_ms if delay > 25]
    assert max(late) < 5000 + 400
    assert len(simulation.delays_ms) + simulation.pump.lagged_frames == 125


def test_a_model_slower_than_time_skips_but_never_piles_up() -> None:
    simulation = Simulation(step_ms=100)
    simulation.run(30)
    assert max(delay for _now, delay in simulation.delays_ms) <= 5 * 100
    assert simulation.pump.lagged_frames == pytest.approx(30_000 * (1 / 80 - 1 / 100), abs=6)


def test_answers_of_an_older_epoch_or_to_nothing_are_dropped() -> None:
    pump = Pump(epoch=1)
    pump.captured(silence(), 0, 0)
    frame = pump.next_to_send()
    assert frame is not None
    wire = pump.sent(frame, (1,), 0)
    pump.rejoin(2)
    assert pump.lagged_frames == 1
    assert pump.answered(answer_to(wire), 0) is None
    assert pump.answered(TokenFrame(FrameKind.MODEL, 2, 99), 0) is None
    assert pump.stale_answers == 2


def test_without_a_model_nothing_is_sent_and_the_oldest_is_skipped() -> None:
    pump = Pump(epoch=1)
    pump.leave()
    for index in range(5):
        pump.captured(silence(), index * FRAME_SAMPLES, index)
    assert pump.next_to_send() is None
    assert pump.lagged_frames == 3
    pump.rejoin(2)
    frame = pump.next_to_send()
    assert frame is not None
    assert frame.frame == 3
    assert pump.sent(frame, (), 0).epoch == 2


def test_a_frame_that_the_model_swallowed_counts_as_lagged() -> None:
    pump = Pump(epoch=1)
    for index in range(2):
        pump.captured(silence(), index * FRAME_SAMPLES, index)
    first, second = pump.next_to_send(), pump.next_to_send()
    assert first is not None
    assert second is not None
    pump.sent(first, (), 0)
    answer = pump.answered(answer_to(pump.sent(second, (), 0)), 0)
    assert answer is not None
    assert answer.frame == 1
    assert (pump.lagged_frames, pump.frames_in_flight) == (1, 0)


def test_a_lossless_pump_refuses_what_it_would_have_to_skip() -> None:
    pump = Pump(epoch=1, lossless=True)
    for index in range(2):
        assert pump.has_room
        pump.captured(silence(), index * FRAME_SAMPLES, index)
    assert not pump.has_room
    with pytest.raises(OverflowError):
        pump.captured(silence(), 0, 0)
