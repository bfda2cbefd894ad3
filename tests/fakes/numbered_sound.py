"""Frames that carry their number, so that each can be told from every other at the far end."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from moshid.audio.codec import Tokens
from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, HALF_SAMPLES
from moshid.audio.ring import Samples

CARD = 2048


def numbered(number: int) -> Samples:
    """A frame of nothing but its number: float32 [1920]."""
    return np.full(FRAME_SAMPLES, number, dtype=np.float32)


class NumberCodec:
    """Two codebooks hold a frame's number."""

    codebooks = 2
    tail_frames = 0

    def __init__(self) -> None:
        self.begun = 0
        """Frames of which the first half was encoded by itself."""
        self.encoded: list[int] = []
        self._half: int | None = None

    def begin(self, pcm: Samples) -> None:
        """Half a frame; the next call has to bring the rest of it."""
        assert (self._half, len(pcm)) == (None, HALF_SAMPLES)
        self._half = int(pcm[0])
        self.begun += 1

    def encode(self, pcm: Samples) -> Tokens:
        """The number, as two tokens."""
        number = int(pcm[0])
        assert self._half in (None, number), "half of one frame, and half of another"
        assert len(pcm) == (FRAME_SAMPLES if self._half is None else HALF_SAMPLES)
        self._half = None
        self.encoded.append(number)
        return divmod(number, CARD)

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


class HalvedNumberSource(NumberSource):
    """Each frame comes in two halves; the first is there when the test says so."""

    half_is_there = False

    def take(self, now_ns: int) -> Heard | None:
        """Whole frames, as ever."""
        heard = super().take(now_ns)
        self.half_is_there = self.half_is_there and heard is None
        return heard

    def first_half(self, now_ns: int) -> Heard | None:  # noqa: ARG002
        """Of the frame that is next."""
        if not self.half_is_there:
            return None
        position = self.taken * FRAME_SAMPLES
        end_ns = self.taken * FRAME_NS + FRAME_NS // 2
        return Heard(numbered(self.taken)[:HALF_SAMPLES], position, end_ns)

    def half_wait_s(self, now_ns: int) -> float:  # noqa: ARG002
        """Nothing is waited for."""
        return 0.0


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
