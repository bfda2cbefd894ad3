"""Where each frame's time went, stage by stage: the last minute of a talk. Owns the bounded ring.

A frame's first half may be encoded while the second is captured (``ahead``). It waits (``queue``),
is encoded (``encode``), is with the model (``step``: from its sending to its answer), is decoded
(``decode``), and waits for its turn at the speaker (``play``).
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal

Stage = Literal["ahead", "queue", "encode", "step", "decode", "play"]
STAGES: Final = 6

KEPT_FRAMES: Final = 750
"""One minute."""

Span = tuple[Stage, int, int, int]
"""Stage, frame, start in microseconds of time.monotonic, duration in microseconds."""


class Trace:
    """The spans of the newest frames; older ones are forgotten."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=KEPT_FRAMES * STAGES)

    def add(self, stage: Stage, frame: int, begun_ns: int, ended_ns: int) -> None:
        """A stage of a frame lasted from ``begun_ns`` to ``ended_ns`` (time.monotonic_ns)."""
        duration_us = max(0, ended_ns - begun_ns) // 1000
        self._spans.append((stage, frame, begun_ns // 1000, duration_us))

    def spans(self) -> list[Span]:
        """All that are kept, in the order in which they ended."""
        return list(self._spans)
