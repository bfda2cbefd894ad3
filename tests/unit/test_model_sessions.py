"""The worker's side of a talk over a real socket pair, with an engine that only counts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import msgspec
import pytest

from moshid.errors import ModelStepFailed
from moshid.ipc import FrameDecoder, FrameKind, TokenFrame
from moshid.model.messages import TextEvent
from moshid.model.monitor import Monitor
from moshid.model.sessions import TalkSession
from tests.fakes.toy_engine import ToyEngine


class Rig:
    """A session of epoch 5, and the peer's end."""

    def __init__(self, fault: str = "none", at: int = -1) -> None:
        self.peer, theirs = socket.socketpair()
        self.peer.settimeout(10.0)
        self.engine = ToyEngine(fault, at)
        self.told: list[msgspec.Struct] = []
        self.monitor = Monitor(self.engine, lambda _what: contextlib.nullcontext())
        self.session = TalkSession(
            "s", 5, theirs, self.monitor, lambda _event, data: self.told.append(data)
        )

    def say(self, index: int, *tokens: int, epoch: int = 5) -> None:
        frame = TokenFrame(FrameKind.USER, epoch, index, 70 + index, tokens=tokens)
        self.peer.sendall(frame.pack())

    def close(self) -> None:
        self.session.close()
        self.peer.close()

    def answers(self) -> list[TokenFrame]:
        return FrameDecoder().feed(self.peer.recv(65536))


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


def test_answers_frame_by_frame_with_number_and_time_kept(rig: Rig) -> None:
    rig.say(10, 1, 2)
    rig.say(11, 3, 4, 9)
    assert rig.session.serve_one() is None
    assert rig.session.has_frames, "one step a call, so that requests get their turn"
    assert rig.session.serve_one() is None
    assert not rig.session.has_frames
    assert rig.answers() == [
        TokenFrame(FrameKind.MODEL, 5, 10, 80, 0, (1, 2)),
        TokenFrame(FrameKind.MODEL, 5, 11, 81, 1, (3, 4)),
    ]
    assert rig.engine.heard == [(1, 2), (3, 4)], "codebooks beyond the model's are left out"
    assert rig.told == [TextEvent("s", 10, 0, " w0"), TextEvent("s", 11, 1, " w1")]
    assert rig.session.frames == 2


def test_padding_is_not_told(rig: Rig) -> None:
    for i in range(5):
        rig.say(i, 1, 2)
        rig.session.serve_one()
    assert [e.token for e in rig.told if isinstance(e, TextEvent)] == [0, 1, 2, 4]


def test_frames_of_another_epoch_are_dropped(rig: Rig) -> None:
    rig.say(0, 1, 2, epoch=4)
    rig.say(1, 1, 2)
    assert rig.session.serve_one() is None
    assert [a.frame for a in rig.answers()] == [1]
    assert len(rig.engine.heard) == 1


def test_nothing_to_read_is_nothing_to_do(rig: Rig) -> None:
    assert rig.session.serve_one() is None


def test_end_of_file_and_an_end_frame_end_the_talk(rig: Rig) -> None:
    rig.peer.sendall(TokenFrame(FrameKind.END, 5, 1).pack())
    assert rig.session.serve_one() == "end"
    rig.peer.shutdown(socket.SHUT_WR)
    assert rig.session.serve_one() == "eof"
    rig.session.close()
    assert [f.kind for f in rig.answers()] == [FrameKind.END]


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 64, TokenFrame(FrameKind.MODEL, 5, 0, tokens=(1, 2)).pack()],
    ids=["garbage", "wrong_kind"],
)
def test_nonsense_ends_the_talk(rig: Rig, data: bytes) -> None:
    rig.peer.sendall(data)
    assert rig.session.serve_one() == "bad_frame"


def test_a_sick_model_ends_no_talk() -> None:
    """Its process ends, and the talk goes on with the next: so the peer is told nothing."""
    ill = Rig("device", 1)
    ill.say(0, 1, 2)
    ill.say(1, 1, 2)
    assert ill.session.serve_one() is None
    with pytest.raises(ModelStepFailed, match="GPU Hang"):
        ill.session.serve_one()
    assert ill.session.frames == 1
    assert [f.kind for f in ill.answers()] == [FrameKind.MODEL]
    ill.close()


def test_a_peer_that_takes_no_answers_loses_the_talk(rig: Rig) -> None:
    """Its credit is two frames; nothing here waits for it or grows with it."""
    ended = None
    for i in range(20_000):
        rig.say(i, 1, 2)
        if (ended := rig.session.serve_one()) is not None:
            break
    assert ended == "not_reading"
