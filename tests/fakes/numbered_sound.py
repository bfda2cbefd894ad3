"""Frames that carry their number, so that each can be told from every other at the far end."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from moshid.audio.codec import Tokens
from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES
from moshid.audio.ring import Samples

CARD = 2048


def numbered(number: int) -> Samples:
    """A frame of nothing but its number: float32 [1920]."""
    return np.full(FRAME_SAMPLES, number, dtype=np.float32)


class NumberCodec:
    """Two codebooks hold a frame's number."""

    codebooks = 2
    tail_frames = 0

    def encode(self, pcm: Samples) -> Tokens:
        """The number, as two tokens."""
        return divmod(int(pcm[0]), CARD)

    def decode(self, tokens: Tokens) -> Samples:
        """The number's frame."""
        return numbered(tokens[0] * CARD + tokens[1])

    def reset(self) -> None:
        """There is nothing to forget."""

    def hurry(self) -> None:
        """It is quick."""

    def close(self) -> None:
        """There is nothing to end."""


class NumberSource:
    """So many frames, as fast as they are taken, or each when the test says so."""

    facts: ClassVar[dict[str, Any]] = {"file": "numbers"}
    cut_short = False
    overruns = 0
    silent = False

    def __init__(self, frames: int, *, lossless: bool) -> None:
        self.lossless = lossless
        self.frames = frames
        self.taken = 0
        self.ready = frames if lossless else 0

    @property
    def ended(self) -> bool:
        """Whether all were taken."""
        return self.taken >= self.frames

    def start(self, now_ns: int) -> None:
        """Nothing to start."""

    def take(self, now_ns: int) -> Heard | None:  # noqa: ARG002
        """The next one that is ready."""
        if self.taken >= min(self.ready, self.frames):
            return None
        number = self.taken
        self.taken += 1
        return Heard(numbered(number), number * FRAME_SAMPLES, (number + 1) * FRAME_NS)

    def wait_s(self, now_ns: int) -> float:  # noqa: ARG002
        """Nothing is waited for."""
        return 0.0

    def close(self) -> None:
        """Nothing to close."""


class NumberSink:
    """Keeps the numbers that were played; ``late`` names those that come too late."""

    facts: ClassVar[dict[str, Any]] = {"file": "numbers"}
    underruns = 0
    drift_ppm = None

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.late = False
        self.late_frames = 0

    def start(self, now_ns: int) -> None:
        """Nothing to start."""

    def too_late(self, position: int, now_ns: int) -> bool:  # noqa: ARG002
        """As the test says."""
        self.late_frames += self.late
        return self.late

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:  # noqa: ARG002
        """Note its number."""
        self.heard.append(int(pcm[0]))
        return now_ns

    def rest(self) -> None:
        """No pause is made here."""

    def pending_s(self) -> float:
        """Nothing is pending."""
        return 0.0

    def close(self) -> None:
        """Nothing to close."""
