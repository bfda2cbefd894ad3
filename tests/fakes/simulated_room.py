"""A microphone and a speaker in one simulated room, in no time at all: a session's source and sink.

The microphone's next frame is there as soon as it is let go, which is when the answer to the one
before has been played. What the speaker was given is heard in it by way of the room's impulse
response, at the position where the speaker plays it: every answer ``OFFSET`` after its frame.
"""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import numpy.typing as npt

from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_SAMPLES
from moshid.audio.link import FrameLink
from moshid.audio.reference import Tap
from moshid.ipc import FrameDecoder, FrameKind, TokenFrame
from moshid.model.engine import Engine
from tests.fakes.rooms import Response, hiss

Samples = npt.NDArray[np.float32]
OFFSET = FRAME_SAMPLES + 480
HISS_DBFS = -75.0


class RoomSpeaker:
    """Keeps all it plays, on the microphone's time line."""

    underruns = 0
    late_frames = 0
    drift_ppm = None

    def __init__(self, samples: int, *, name: str = "Speakers") -> None:
        self.played: Samples = np.zeros(samples + 4 * FRAME_SAMPLES, dtype=np.float32)
        self.tap: Tap | None = None
        self._name = name

    @property
    def facts(self) -> dict[str, Any]:
        """A device's."""
        return {"name": self._name, "rate": 24_000}

    def start(self, now_ns: int) -> None:
        """Nothing to start."""

    def too_late(self, position: int, now_ns: int) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:
        """At ``position + OFFSET``."""
        at = position + OFFSET
        self.played[at : at + len(pcm)] = pcm
        if self.tap is not None:
            self.tap(at, pcm)
        return now_ns

    def rest(self) -> None:
        """It plays what it is given, when it is given."""

    def pending_s(self) -> float:
        """Nothing."""
        return 0.0

    def close(self) -> None:
        """Nothing to close."""


class RoomMicrophone:
    """Hears the user, the speaker through the room, and hiss."""

    lossless = True
    cut_short = False
    overruns = 0
    silent = False
    facts: dict[str, Any] = {"name": "Microphone", "rate": 24_000}  # noqa: RUF012

    def __init__(self, user: Samples, speaker: RoomSpeaker, room: Response) -> None:
        self._sound = user + hiss(len(user), HISS_DBFS)
        self._speaker = speaker
        self._past = len(room)
        self._size = 1 << (len(room) + FRAME_SAMPLES).bit_length()
        self._room = np.fft.rfft(room, self._size)
        self._position = 0
        self._next = False

    def let_go(self) -> None:
        """Time goes on by a frame."""
        self._next = True

    @property
    def ended(self) -> bool:
        """Whether the user's recording is over."""
        return self._position >= len(self._sound)

    def start(self, now_ns: int) -> None:
        """Nothing to start."""

    def wait_s(self, now_ns: int) -> float:  # noqa: ARG002
        """Not at all."""
        return 0.0

    def take(self, now_ns: int) -> Heard | None:
        """The next frame."""
        if self.ended or not self._next:
            return None
        self._next = False
        position, end = self._position, self._position + FRAME_SAMPLES
        self._position = end
        played = self._speaker.played[max(0, position - self._past) : end]
        heard = np.fft.irfft(np.fft.rfft(played, self._size) * self._room)[: len(played)]
        echo = heard[-FRAME_SAMPLES:].astype(np.float32)
        return Heard(self._sound[position:end] + echo, position, now_ns)

    def close(self) -> None:
        """Nothing to close."""


class EngineAtHand:
    """A model's end of the frame socket, without a process: ``serve`` answers what has come."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        self._decoder = FrameDecoder()
        self.link = FrameLink(theirs)

    def serve(self) -> None:
        """Step once for each frame that waits."""
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        for frame in self._decoder.feed(data):
            if frame.kind != FrameKind.USER:
                continue
            said = self._engine.step(frame.tokens)
            answer = TokenFrame(
                FrameKind.MODEL,
                frame.epoch,
                frame.frame,
                frame.capture_ns,
                said.text,
                tokens=said.tokens,
            )
            self._sock.sendall(answer.pack())

    def close(self) -> None:
        """Hang up."""
        self._sock.close()
