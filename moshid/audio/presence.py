"""Who speaks, and how soon Moshi falls silent when spoken to. Pure: frames in, states out.

Times are frames of the session. A state changes only when its sign has lasted, and is then dated
back to where the sign began, so that patience costs no accuracy.

::

    user starts while Moshi speaks ──▶ pending ──Moshi falls silent──▶ counted: frames in between
                                          └─ user has long stopped, Moshi speaks on: forgotten
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Any, Final

FRAME_MS: Final = 80
KEPT: Final = 100
GRACE_FRAMES: Final = 12
"""A word of assent is no interruption: if Moshi speaks on for a second after it, it does not
count."""


class Steady:
    """A yes or no with hysteresis: yes after a while at ``on`` or above, no after one below
    ``off``."""

    def __init__(self, on: float, off: float, *, on_frames: int, off_frames: int) -> None:
        self.state = False
        self.since = 0
        """The frame in which the present state began."""
        self._on, self._off = on, off
        self._patience = {False: on_frames, True: off_frames}
        self._run_began: int | None = None

    def update(self, value: float, frame: int) -> bool:
        """Take the value of ``frame``; returns whether the state has changed."""
        against = value < self._off if self.state else value >= self._on
        if not against:
            self._run_began = None
            return False
        if self._run_began is None:
            self._run_began = frame
        if frame - self._run_began + 1 < self._patience[self.state]:
            return False
        self.state, self.since, self._run_began = not self.state, self._run_began, None
        return True

    def reset(self, frame: int) -> bool:
        """No, at once; returns whether that is a change."""
        self._run_began = None
        changed, self.state = self.state, False
        if changed:
            self.since = frame
        return changed


class Interrupts:
    """Counts the times that Moshi fell silent because the user began to speak."""

    def __init__(self) -> None:
        self.count = 0
        self._frames: deque[int] = deque(maxlen=KEPT)
        self._pending: int | None = None
        self._user_stopped: int | None = None

    def user_started(self, at: int, *, moshi_speaks: bool) -> None:
        """The user began in frame ``at``."""
        self._user_stopped = None
        if moshi_speaks and self._pending is None:
            self._pending = at

    def user_stopped(self, at: int) -> None:
        """The user's last frame was before ``at``."""
        self._user_stopped = at

    def moshi_stopped(self, at: int) -> None:
        """Moshi's first silent frame is ``at``."""
        if self._pending is not None and at >= self._pending:
            self.count += 1
            self._frames.append(at - self._pending)
        self._pending = None

    def tick(self, frame: int) -> None:
        """``frame`` is over, and Moshi still speaks."""
        if self._user_stopped is not None and frame - self._user_stopped >= GRACE_FRAMES:
            self._pending = self._user_stopped = None

    def to_dict(self) -> dict[str, Any]:
        """``{count, last_ms, p50_ms}``; null while there are none. The last hundred count."""
        if not self._frames:
            return {"count": 0, "last_ms": None, "p50_ms": None}
        return {
            "count": self.count,
            "last_ms": self._frames[-1] * FRAME_MS,
            "p50_ms": round(median(self._frames)) * FRAME_MS,
        }


class Presence:
    """Both speakers' states, frame by frame."""

    def __init__(self) -> None:
        self._user = Steady(0.5, 0.25, on_frames=2, off_frames=4)
        self._moshi = Steady(-45.0, -50.0, on_frames=1, off_frames=6)
        self.interrupts = Interrupts()

    @property
    def user_speaking(self) -> bool:
        """Whether the user speaks, and is heard."""
        return self._user.state

    @property
    def moshi_speaking(self) -> bool:
        """Whether Moshi speaks."""
        return self._moshi.state

    def update(self, frame: int, *, speech: float, hears: bool, moshi_dbfs: float) -> None:
        """Take one frame: the user's probability of speech, whether the model hears it, and the
        level of what Moshi says meanwhile."""
        if self._moshi.update(moshi_dbfs, frame) and not self._moshi.state:
            self.interrupts.moshi_stopped(self._moshi.since)
        changed = self._user.update(speech, frame) if hears else self._user.reset(frame)
        if changed and self._user.state:
            self.interrupts.user_started(self._user.since, moshi_speaks=self._moshi.state)
        elif changed:
            self.interrupts.user_stopped(self._user.since)
        if self._moshi.state:
            self.interrupts.tick(frame)
