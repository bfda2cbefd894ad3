"""Runs an echo canceller over simulated sound, frame by frame, as the session does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from moshid.audio.echo import FAR_SAMPLES, EchoCanceller
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.reference import Reference
from moshid.audio.webrtc import ECHO_DELAY, EchoSuppressor
from tests.fakes import rooms

Samples = npt.NDArray[np.float32]
NOISE_DBFS = -90.0


class Chain(Protocol):
    """Whatever takes frames of both sides and gives the near one."""

    delay: int
    """Samples by which the near side comes out later."""

    def process(self, near: Samples, far: Samples) -> Samples:
        """float32 [1920], float32 [1920] → float32 [1920]."""


class Ours:
    """The canceller of a session, with or without the library behind it."""

    def __init__(self, *, suppressor: bool = True, parts: int = 1, in_time: bool = True) -> None:
        """
        Args:
            suppressor: the library's.
            parts: in how many a frame is cancelled, one after the other.
            in_time: whether there is time to learn after each frame.
        """
        self._parts = parts
        self._in_time = in_time
        self.canceller = EchoCanceller(EchoSuppressor() if suppressor else None)
        self.delay = ECHO_DELAY if suppressor else 0
        self._reference = Reference()
        self._position = 0

    def process(self, near: Samples, far: Samples) -> Samples:
        """Cancel, then learn."""
        self._reference.write(self._position, far)
        out = [self._part(part) for part in np.split(near, self._parts)]
        if self._in_time:
            self.canceller.learn()
        return np.concatenate(out)

    def _part(self, near: Samples) -> Samples:
        self._position += len(near)
        return self.canceller.process(near, self._reference.read(self._position, FAR_SAMPLES))


@dataclass(frozen=True)
class Scene:
    """What a microphone hears: float32 [n] each."""

    far: Samples
    echo: Samples
    near: Samples

    @property
    def microphone(self) -> Samples:
        """All of it, and hiss."""
        return self.echo + self.near + rooms.hiss(len(self.echo), NOISE_DBFS)


def scene(response: rooms.Response, seconds: float, *, near_from_s: float | None = None) -> Scene:
    """The model speaks all the time, the user from ``near_from_s`` on, or never."""
    far = rooms.far_voice(seconds)
    near = np.zeros_like(far)
    if near_from_s is not None:
        near = rooms.near_voice(seconds)
        near[: round(near_from_s * SAMPLE_RATE)] = 0
    return Scene(far, rooms.heard_of(far, response), near)


def run(chain: Chain, microphone: Samples, far: Samples) -> Samples:
    """All frames, one after the other."""
    pairs = zip(rooms.frames_of(microphone), rooms.frames_of(far), strict=True)
    return np.concatenate([chain.process(near, played) for near, played in pairs])
