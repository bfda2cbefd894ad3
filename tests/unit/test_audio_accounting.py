"""No frame is lost in silence, and no queue grows: the loop's accounts, whatever stalls when."""

from __future__ import annotations

import select
import socket
from collections import deque
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshid.audio.frames import FRAME_SAMPLES, silence
from moshid.audio.hearing import Hearing
from moshid.audio.link import FrameLink
from moshid.audio.pump import WAITING_FRAMES_MAX, Pump
from moshid.audio.request import ControlChanges, Start
from moshid.audio.session import ANSWERS_MAX, Plan, Session
from moshid.audio.stats import WINDOW_FRAMES, Holes, Window
from moshid.audio.trace import KEPT_FRAMES, STAGES, Trace
from moshid.ipc import IN_FLIGHT_FRAMES_MAX, FrameKind, TokenFrame
from moshid.worker_base import Control
from tests.fakes.numbered_sound import HalvedNumberSource, NumberCodec, NumberSink, NumberSource
from tests.fakes.parrot_peer import DELAY_FRAMES, ParrotPeer

MANY_FRAMES = 4_200
"""Past every limit of 4,096 frames that upstream's parts have."""

DEEDS = st.lists(
    st.sampled_from(["capture", "send", "answer", "swallow", "stale", "leave", "rejoin"]),
    max_size=200,
)


def check(pump: Pump) -> None:
    """captured = answered + lagged + waiting + in flight."""
    told = pump.answered_frames + pump.lagged_frames + pump.frames_waiting + pump.frames_in_flight
    assert pump.captured_frames == told
    assert pump.frames_waiting <= WAITING_FRAMES_MAX
    assert pump.frames_in_flight <= IN_FLIGHT_FRAMES_MAX


@given(DEEDS)
@settings(max_examples=300, deadline=None)
def test_every_frame_is_accounted_for_whatever_happens(deeds: list[str]) -> None:
    pump = Pump(epoch=1)
    wire: deque[TokenFrame] = deque()
    for deed in deeds:
        match deed:
            case "capture":
                pump.captured(silence(), pump.captured_frames * FRAME_SAMPLES, 0)
            case "send" if (frame := pump.next_to_send()) is not None:
                wire.append(pump.sent(frame, (1,), 0))
            case "answer" if wire:
                sent = wire.popleft()
                pump.answered(TokenFrame(FrameKind.MODEL, sent.epoch, sent.frame), 0)
            case "swallow" if wire:
                wire.popleft()
            case "stale":
                pump.answered(TokenFrame(FrameKind.MODEL, pump.epoch - 1, 0), 0)
            case "leave":
                pump.leave()
            case "rejoin":
                pump.rejoin(pump.epoch + 1)
        check(pump)


class Rig:
    """A session between numbers; the test is the model, frame by frame."""

    def __init__(
        self, frames: int, *, lossless: bool = False, hearing: Hearing | None = None
    ) -> None:
        self.source = HalvedNumberSource(frames, lossless=lossless)
        self.sink = NumberSink()
        self.codec = NumberCodec()
        ours, self.model = socket.socketpair()
        self.model.setblocking(False)
        self.told: list[str] = []
        self.sent_when_told: list[bool] = []
        """Whether the model had something to read as it was told."""
        self.session = Session(
            Plan("s", 1, DELAY_FRAMES),
            self.source,
            self.sink,
            self._note,
            codec=self.codec,
            link=FrameLink(ours),
            hearing=hearing,
        )

    def _note(self, name: str, _data: Any) -> None:
        self.told.append(name)
        gone = self.model.fileno() < 0
        self.sent_when_told.append(not gone and bool(select.select([self.model], [], [], 0)[0]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.finish()
        self.model.close()

    def capture(self, frames: int = 1) -> None:
        self.source.ready += frames
        self.session.step()

    def half(self) -> None:
        """The first half of the next frame is there."""
        self.source.half_is_there = True
        self.session.step()

    def leave(self) -> None:
        """The model's process is gone."""
        self.model.close()
        self.session.step()

    def rejoin(self) -> None:
        """Another one has come."""
        self.model.close()
        ours, self.model = socket.socketpair()
        self.model.setblocking(False)
        self.session.rejoin(1, FrameLink(ours))

    def pause(self, paused: bool) -> None:
        self.session.set(ControlChanges(paused=paused))

    def answer(self, frame: int) -> None:
        self.model.send(TokenFrame(FrameKind.MODEL, 1, frame, tokens=(0, frame)).pack())
        self.session.step()


@given(st.lists(st.sampled_from(["capture", "answer", "stop", "go on"]), max_size=120))
@settings(max_examples=60, deadline=None)
def test_what_a_session_tells_adds_up_through_random_stalls(deeds: list[str]) -> None:
    with Rig(200) as rig:
        stall_at_random(rig, deeds)
        assert rig.session.stats()["frames"] == deeds.count("capture")


def stall_at_random(rig: Rig, deeds: list[str]) -> None:
    answered, stopped = 0, False
    for deed in deeds:
        stopped = deed == "stop" or (stopped and deed != "go on")
        if deed == "capture":
            rig.capture()
        elif deed == "answer" and not stopped and rig.session.stats()["frames_in_flight"]:
            rig.answer(max(answered, rig.session.stats()["answered_frames"]))
            answered += 1
        stats = rig.session.stats()
        names = ("answered_frames", "lagged_frames", "frames_waiting", "frames_in_flight")
        assert stats["frames"] == sum(stats[name] for name in names)


@given(
    st.lists(
        st.sampled_from(
            [
                "half",
                "capture",
                "stall",
                "answer",
                "leave",
                "rejoin",
            ]
        ),
        max_size=80,
    )
)
@settings(max_examples=100, deadline=None)
def test_a_frame_that_is_begun_is_finished_whatever_happens(deeds: list[str]) -> None:
    """The codec sees to it (``NumberCodec``): an encoder cannot forget half a frame."""
    with Rig(400) as rig:
        for deed in deeds:
            match deed:
                case "half":
                    rig.half()
                case "capture":
                    rig.capture()
                case "stall":
                    rig.capture(4)
                case "answer" if rig.session.stats()["frames_in_flight"]:
                    rig.answer(rig.codec.encoded[-1])
                case "leave" if rig.session.link is not None:
                    rig.leave()
                case "rejoin":
                    rig.rejoin()
            stats = rig.session.stats()
            names = ("answered_frames", "lagged_frames", "frames_waiting", "frames_in_flight")
            assert stats["frames"] == sum(stats[name] for name in names)
        assert rig.codec.encoded == sorted(set(rig.codec.encoded))


def test_a_frame_is_begun_only_when_no_answer_is_awaited() -> None:
    """An answer would have to be decoded at once, and the codec does one thing at a time."""
    with Rig(10) as rig:
        rig.half()
        assert rig.codec.begun == 1
        rig.half()
        assert rig.codec.begun == 1, "once"
        rig.capture()
        assert rig.codec.encoded == [0]
        rig.half()
        assert rig.codec.begun == 1
        rig.answer(0)
        assert rig.codec.begun == 2, "as soon as it has come"
        rig.pause(True)
        rig.capture()
        assert rig.codec.encoded == [0, 1]
        rig.answer(1)
        rig.half()
        assert rig.codec.begun == 2, "not in a pause"
        stages = [stage for stage, *_ in rig.session.report.trace.spans()]
        assert stages.count("ahead") == 2


class Lessons(Hearing):
    """Counts what it was told to learn from."""

    def __init__(self) -> None:
        super().__init__(
            Start(session="s", echo_cancel=False), NumberSource(0, lossless=False), NumberSink()
        )
        self.learned = 0

    def learn(self) -> None:
        self.learned += 1


def test_the_room_is_learned_when_no_answer_is_awaited() -> None:
    """Beside the model's step it would take the step's time."""
    lessons = Lessons()
    with Rig(10, hearing=lessons) as rig:
        rig.capture()
        rig.session.step()
        assert lessons.learned == 0
        rig.answer(0)
        assert lessons.learned == 1


def test_a_frame_is_sent_before_anything_else_is_done_with_it() -> None:
    with Rig(10) as rig:
        rig.capture()
        assert rig.sent_when_told[rig.told.index("level")]


def test_4200_frames_unpaced_all_come_back_in_order() -> None:
    source, sink = NumberSource(MANY_FRAMES, lossless=True), NumberSink()
    with ParrotPeer() as peer:
        link = FrameLink(peer.theirs.dup())
        session = Session(
            Plan("s", 1, DELAY_FRAMES),
            source,
            sink,
            lambda *_: None,
            codec=NumberCodec(),
            link=link,
        )
        while session.ended is None:
            readers = [] if session.link is None else [session.link]
            select.select(readers, [], [], session.wait_s())
            session.step()
        stats = session.finish()
    assert session.ended == "input_end"
    assert sink.heard == list(range(MANY_FRAMES - DELAY_FRAMES))
    assert stats["frames"] == stats["answered_frames"] == MANY_FRAMES
    assert stats["lagged_frames"] == stats["late_frames"] == 0


def test_what_came_too_late_is_told_and_not_played() -> None:
    with Rig(10) as rig:
        rig.capture()
        rig.sink.late = True
        rig.answer(0)
        assert rig.sink.heard == []
        assert rig.session.stats()["late_frames"] == 1
        assert rig.session.stats()["answered_frames"] == 1


def test_a_model_that_says_more_than_it_was_asked_is_left() -> None:
    flood = TokenFrame(FrameKind.MODEL, 1, 9, tokens=(0, 1)).pack() * (ANSWERS_MAX + 2)
    with Rig(10) as rig:
        rig.capture()
        rig.model.send(flood)
        rig.session.step()
        assert rig.session.link is None
        assert rig.session.stats()["lagged_frames"] == 1, "what it had counts as lost"


def test_what_is_kept_of_the_past_has_an_end() -> None:
    window, trace = Window(), Trace()
    for frame in range(3 * KEPT_FRAMES):
        window.add(1.0)
        for _ in range(STAGES):
            trace.add("step", frame, 0, 1)
    assert len(window) == WINDOW_FRAMES
    assert len(trace.spans()) == KEPT_FRAMES * STAGES


def test_a_daemon_that_does_not_read_holds_nobody_up() -> None:
    ours, theirs = socket.socketpair()
    control = Control(ours)
    for _ in range(20_000):
        control.tell("level", {"session": "s", "frame": 1, "input_dbfs": -30.0})
    theirs.setblocking(False)
    assert len(theirs.recv(1 << 24)) < 1 << 20
    ours.close()
    theirs.close()


@pytest.mark.parametrize("jitter_ms", [0, 9])
def test_time_in_which_nothing_was_heard_is_told_and_jitter_is_not(jitter_ms: int) -> None:
    holes = Holes()
    for frame in range(500):
        late_ms = (frame * 7) % (jitter_ms + 1) + (2_000 if frame >= 250 else 0)
        drift_ms = frame * 0.08 * 0.5  # 500 ppm
        holes.note(round((frame * 80 + late_ms + drift_ms) * 1e6), frame * 80_000_000)
    assert holes.count == 1
    assert holes.missed_ms == pytest.approx(2_000, abs=3)
