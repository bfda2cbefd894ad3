"""A microphone and a speaker of lists: frames in when a test gives them, what is played kept."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES
from moshid.audio.ring import Samples


class ListedSource:
    """Gives the frames that ``give`` was given, 80 ms after one another by their times."""

    lossless = False
    cut_short = False
    ended = False
    overruns = 0
    silent = False

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {"name": "listed"}
        self.origin_ns = time.monotonic_ns()
        self.frames = 0
        self._coming: deque[Samples] = deque()

    def give(self, *frames: Samples) -> None:
        """Frames for the next takes, float32 [1920]."""
        self._coming.extend(frames)

    def start(self, now_ns: int) -> None:
        """See Source."""

    def take(self, now_ns: int) -> Heard | None:  # noqa: ARG002
        """See Source."""
        if not self._coming:
            return None
        position = self.frames * FRAME_SAMPLES
        self.frames += 1
        end_ns = self.origin_ns + self.frames * FRAME_NS
        return Heard(self._coming.popleft(), position, end_ns)

    def wait_s(self, now_ns: int) -> float:  # noqa: ARG002
        """See Source."""
        return 0.0

    def close(self) -> None:
        """See Source."""


class ListedSink:
    """Keeps what is played: ``(position, pcm)``; each is heard 20 ms after its frame's end."""

    underruns = 0
    late_frames = 0
    drift_ppm: float | None = None

    def __init__(self, origin_ns: int) -> None:
        self.facts: dict[str, Any] = {"name": "listed", "latency_ms": 5.0}
        self.played: list[tuple[int, Samples]] = []
        self.rests = 0
        self._origin_ns = origin_ns

    def start(self, now_ns: int) -> None:
        """See Sink."""

    def too_late(self, position: int, now_ns: int) -> bool:  # noqa: ARG002
        """See Sink."""
        return False

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:  # noqa: ARG002
        """See Sink."""
        self.played.append((position, pcm))
        return self._origin_ns + (position // FRAME_SAMPLES + 1) * FRAME_NS + 20_000_000

    def rest(self) -> None:
        """See Sink."""
        self.rests += 1

    def pending_s(self) -> float:
        """See Sink."""
        return 0.0

    def close(self) -> None:
        """See Sink."""

    def sound(self) -> Samples:
        """Everything played, piece by piece."""
        return np.concatenate([pcm for _, pcm in self.played])
