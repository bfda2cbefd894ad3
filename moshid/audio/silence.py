"""What exact zeros from a microphone mean. Owns the judgement; pure, fed frame by frame.

No microphone that works gives exact zeros for a second: it is muted, withheld by the system, or its
stream has died without saying so. Zeros alone do not tell which. So a second of them is told; five
seconds after there was sound, or one after the machine slept, the stream is taken for dead and
opened again, once a talk: many a headset and filter gives zeros in every pause.
"""

from __future__ import annotations

import time
from typing import Final, Literal

SILENT_FRAMES: Final = 13
"""Just over a second."""

STUCK_FRAMES: Final = 63
"""Just over five seconds."""

SLEPT_NS_MIN: Final = 1_000_000_000
Judgement = Literal["sound", "silent", "stuck"]


class SilenceWatch:
    """Judges each frame."""

    def __init__(self, *, may_be_stuck: bool, zeros_known: bool = False) -> None:
        """``may_be_stuck``: False where zeros are no sign of it, or nothing could be done;
        ``zeros_known``: it was opened again for them once."""
        self._may_be_stuck = may_be_stuck
        self._zeros_known = zeros_known
        self._zero_frames = 0
        self._heard_sound = False
        self._asleep_ns: int | None = None

    @property
    def silent(self) -> bool:
        """Whether exact zeros have come for over a second."""
        return self._zero_frames >= SILENT_FRAMES

    def judge(self, sounds: bool, asleep_ns: int) -> Judgement:
        """One frame came; ``asleep_ns`` is how long the machine has slept since it started."""
        if self._asleep_ns is None:
            self._asleep_ns = asleep_ns
        if sounds:
            self._zero_frames, self._heard_sound, self._asleep_ns = 0, True, asleep_ns
            return "sound"
        self._zero_frames += 1
        if not self.silent:
            return "sound"
        slept = asleep_ns - self._asleep_ns > SLEPT_NS_MIN
        doubted = self._heard_sound and not self._zeros_known
        if self._may_be_stuck and (slept or (doubted and self._zero_frames >= STUCK_FRAMES)):
            return "stuck"
        return "silent"


def asleep_ns() -> int:
    """How long the machine has slept since it started: the clock that counts sleep, less the one
    that does not."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(
            time.CLOCK_MONOTONIC
        )
    uptime = getattr(time, "CLOCK_UPTIME_RAW", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) - time.clock_gettime_ns(uptime)
