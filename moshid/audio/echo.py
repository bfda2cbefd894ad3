"""The speaker's sound, taken out of the microphone's. Owns the chain and what is told about it.

::

    microphone ──▶ minus the estimated echo ─┬─▶ WebRTC's AEC3 ──▶ the louder near voice ──▶ out
                        ▲ echo_filter.py     │        ▲               ▲ echo_mix.py
    speaker ─▶ delayed ─┴────────────────────┼────────┘               │
                 ▲ echo_delay.py             └────────────────────────┘

The subtraction leaves the near voice whole. The library's suppressor takes what no linear filter
can: a distorting loudspeaker, the first second, a path that has just changed. It takes some of the
near voice, too, and gives way where that is louder than the echo that is left: as far as the
subtraction is known to leave, or as there can be at all (``echo_bound``).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final, Protocol

import numpy as np

from moshid.audio.echo_bound import EchoBound
from moshid.audio.echo_delay import LAGS, DelaySearch
from moshid.audio.echo_filter import MEMORY_FRAMES, SLICE, TAPS, EchoFilter, Emphasis
from moshid.audio.echo_mix import NearMix
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, level_dbfs
from moshid.audio.ring import Samples

FAR_SAMPLES: Final = LAGS + SLICE
"""How much of the far sound, up to a frame's end, its echo may come from."""

LEAD_SAMPLES: Final = SAMPLE_RATE // 100
"""The filter begins 10 ms before the first arrival."""

OFF_SAMPLES: Final = SAMPLE_RATE // 100
"""An arrival this much off its place is worth a move."""

WORKS_DB: Final = 12.0
"""A filter that has once been placed, and removes so much, stays, whatever the search says."""

ACTIVE_DBFS: Final = -60.0
"""The speaker speaks, after pre-emphasis."""

TRUST_DB: Final = 15.0
"""From here on subtraction is good enough for the suppressor to work on what it leaves,"""

UNTRUST_DB: Final = 12.0
"""until it falls below this; otherwise the suppressor works on the microphone's sound."""

TRUST_FRAMES: Final = 8
LOST_DB: Final = -1.0
"""Subtraction that makes a frame louder by so much is wrong, at least for now."""


HISTORY_FRAMES: Final = 125
"""10 s of frames in which the speaker spoke."""

DOUBLE_TALK_DB: Final = 6.0
"""If less than this is removed, somebody near speaks, or the filter is lost;"""

DOUBLE_TALK_EVERY: Final = 3
"""such frames are remembered by thirds, so that long double talk does not look like a loss."""

CATCH_UP_STEPS: Final = 3
_NEAR_NOISE_DBFS: Final = -90.0


class Suppressor(Protocol):
    """What follows the subtraction: WebRTC's audio processing, or nothing."""

    @property
    def delay(self) -> int:
        """Samples by which its output comes later."""

    def process(self, near: Samples, far: Samples) -> Samples:
        """float32 [1920], float32 [1920] → float32 [1920]."""

    def reset(self) -> None:
        """Forget what was heard: suppress strongly until the room is known."""


class EchoCanceller:
    """``process`` each frame when it comes; ``learn`` when there is time, or it is done before the
    next."""

    def __init__(self, suppressor: Suppressor | None = None) -> None:
        """Without a suppressor the estimated echo is subtracted, and that is all."""
        self._suppressor = suppressor
        self.reset()

    def reset(self) -> None:
        """Forget room and delay."""
        self._filter = EchoFilter()
        self._search = DelaySearch()
        self._bound = EchoBound()
        self._emphasis = Emphasis()
        self._delay = 0
        self._placed = False
        self._mix = None if self._suppressor is None else NearMix(self._suppressor.delay)
        self._memory: deque[tuple[Samples, Samples]] = deque(maxlen=MEMORY_FRAMES)
        self._removed_db: deque[float] = deque(maxlen=HISTORY_FRAMES)
        self._subtracted_db: deque[float] = deque(maxlen=HISTORY_FRAMES)
        self._double_talk = self._learned = 0
        self._trusted = False
        self._pending: tuple[Samples, Samples] | None = None
        self._parts: list[tuple[Samples, Samples, Samples]] = []
        """Of the frame that is not whole yet: near sound, without the estimate, and what came
        out."""

    def process(self, near: Samples, far: Samples) -> Samples:
        """The near sound alone: float32 [n].

        Args:
            near: the microphone's frame, or the part of it that is next: float32 [n], in whole
                pieces of 10 ms.
            far: what the speaker played until its end, float32 [FAR_SAMPLES].
        """
        self.learn()
        echo = self._filter.echo(self._window(far, len(near)))
        rest = near - echo
        out = rest
        if self._suppressor is not None and self._mix is not None:
            leak = None if _ratio_db(near, rest) < LOST_DB else self._leak()
            played = np.ascontiguousarray(far[-len(near) :])
            out = self._suppressor.process(near if leak is None else rest, played)
            out = self._mix.mix(rest, echo, out, leak, self._bound.feed(near, played))
        self._keep(near, rest, out, far)
        return out

    def _keep(self, near: Samples, rest: Samples, out: Samples, far: Samples) -> None:
        """Remember a part of a frame, and judge the frame when it is whole."""
        self._parts.append((near, rest, out))
        if sum(len(near) for near, _, _ in self._parts) < FRAME_SAMPLES:
            return
        near, rest, out = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        self._parts.clear()
        self._pending = near, far
        if _active(self._window(far)):
            self._count(_ratio_db(near, out), _ratio_db(near, rest))

    def learn(self) -> None:
        """Fit filter and delay to the frame last processed, when there is time."""
        if self._pending is None:
            return
        near, far = self._pending
        self._pending = None
        near = self._emphasis.feed(near)
        far = Emphasis().feed(far)
        window = self._window(far)
        speaks = _active(far[-FRAME_SAMPLES:])
        lag = self._search.lag
        self._search.feed(near, far[-FRAME_SAMPLES:], look=speaks or _active(window))
        if _differs(self._search.lag, lag):
            self._bound = EchoBound()  # there is an echo that was not there before
        if not _active(window):
            return
        self._memory.append((near, far))
        if self._misplaced():
            self._move()
        else:
            if not self._filter.learn(near, window, steps=self._steps()):
                self._begin_again()

    @property
    def facts(self) -> dict[str, Any]:
        """``delay_ms``: from the speaker's turn to its first arrival, null until it is sure.
        ``erle_db``: what was removed in the best quarter of the last 10 s in which the speaker
        spoke (in the others somebody near spoke as well); ``linear_erle_db``: by subtraction alone.
        ``coupling_db``: how loud the microphone hears the speaker, against what was played.
        """
        lag = self._search.lag
        gain = float(np.dot(self._filter.taps, self._filter.taps))
        return {
            "delay_ms": None if lag is None else round(1e3 * lag / SAMPLE_RATE, 1),
            "erle_db": _best_quarter(self._removed_db),
            "linear_erle_db": _best_quarter(self._subtracted_db),
            "coupling_db": round(10 * math.log10(gain), 1) if gain > 0 else None,
        }

    def _count(self, removed_db: float, subtracted_db: float) -> None:
        if subtracted_db < DOUBLE_TALK_DB:
            self._double_talk += 1
            if self._double_talk % DOUBLE_TALK_EVERY:
                return
        self._removed_db.append(removed_db)
        self._subtracted_db.append(subtracted_db)

    def _leak(self) -> float | None:
        """The power of what subtraction leaves, as a share of what it takes, if it works."""
        alone = sorted(db for db in self._subtracted_db if db >= DOUBLE_TALK_DB)
        if len(alone) < TRUST_FRAMES:
            return None
        removed_db = alone[len(alone) // 2]  # np.median loads a library at its first use
        self._trusted = removed_db >= (UNTRUST_DB if self._trusted else TRUST_DB)
        return 10 ** (-removed_db / 10) if self._trusted else None

    def _window(self, far: Samples, samples: int = FRAME_SAMPLES) -> Samples:
        """What the last ``samples`` near ones can have the echo of."""
        end = len(far) - self._delay
        return far[end - TAPS - samples : end]

    def _misplaced(self) -> bool:
        lag = self._search.lag
        if lag is None or abs(lag - LEAD_SAMPLES - self._delay) <= OFF_SAMPLES:
            return False
        recent = list(self._subtracted_db)[-MEMORY_FRAMES:]
        return not self._placed or max(recent, default=0.0) < WORKS_DB

    def _steps(self) -> int:
        """More while little is known, every other frame once subtraction is trusted."""
        self._learned += 1
        if self._learned < MEMORY_FRAMES // 2:
            return 2
        return self._learned % 2 if self._trusted else 1

    def _begin_again(self) -> None:
        """Somebody has moved: the suppressor has to help until the new path is known."""
        self._search = DelaySearch()
        self._bound = EchoBound()
        self._memory.clear()
        self._learned = 0
        self._subtracted_db.clear()
        if self._suppressor is not None:
            self._suppressor.reset()

    def _move(self) -> None:
        """Put the filter where the sound arrives, and fit it to all that is remembered."""
        assert self._search.lag is not None
        self._delay = max(0, self._search.lag - LEAD_SAMPLES)
        self._filter = EchoFilter(aligned=True)
        self._placed = True
        for number, (near, far) in enumerate(self._memory, 1):
            last = number == len(self._memory)
            self._filter.learn(near, self._window(far), steps=CATCH_UP_STEPS if last else 0)
        self._filter.adopt()


def _differs(lag: int | None, before: int | None) -> bool:
    return lag is not None and (before is None or abs(lag - before) > OFF_SAMPLES)


def _active(far: Samples) -> bool:
    return level_dbfs(far) > ACTIVE_DBFS


def _ratio_db(before: Samples, after: Samples) -> float:
    """Removed decibels, both ends no lower than a quiet room."""
    return max(level_dbfs(before), _NEAR_NOISE_DBFS) - max(level_dbfs(after), _NEAR_NOISE_DBFS)


def _best_quarter(values: deque[float]) -> float | None:
    return round(float(np.percentile(list(values), 75)), 1) if values else None
