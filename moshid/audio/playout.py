"""When an answer is played. Owns the delay between a frame's capture and its answer's sound.

Pure: positions in samples at 24 kHz go in, samples to write come out. The answer to a frame that
was captured at position ``p`` is played at ``p + offset``. The offset is set by the first answer
(its arrival plus a margin for jitter) and then

- an answer late by up to a frame moves the offset: a short gap, nothing is lost;
- an answer later than that is dropped, and so is every late one after it until one is in time: a
  stall leaves no lag behind. If a second goes by with nothing but such answers, the loop has become
  slower for good: the offset starts afresh;
- when for four seconds every answer was early by more than the margin, the excess is cut out of one
  frame at its quietest place, with a cross-fade.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.ring import Samples

MARGIN_SAMPLES: Final = SAMPLE_RATE // 100
"""10 ms of room for jitter between an answer's arrival and its turn."""

TOLERANCE_SAMPLES: Final = 60
"""2.5 ms: resamplers and callback phases move positions by about this much."""

CROSS_FADE_SAMPLES: Final = 120
CALM_FRAMES: Final = 50
LATE_SAMPLES_MAX: Final = SAMPLE_RATE
_EMPTY: Final[Samples] = np.zeros(0, dtype=np.float32)


class Playout:
    """Places answers on the speaker's time line."""

    def __init__(self, *, offset: int | None = None, margin: int = MARGIN_SAMPLES) -> None:
        self.offset = offset
        """Samples from a frame's capture (its first sample) to its answer's sound; None: unset."""
        self.gaps = 0
        """Times that silence had to be put between two answers."""
        self.late_frames = 0
        """Answers that came too late to be played."""
        self.cuts = 0
        """Times that sound was cut out to come back to the normal delay."""
        self._margin = margin
        self._late_since: int | None = None
        self._headroom: deque[int] = deque(maxlen=CALM_FRAMES)
        self._started = False

    def too_late(self, position: int, played: int) -> bool:
        """Whether the answer to ``position`` should not even be decoded; counts it if so."""
        patience = FRAME_SAMPLES if self._late_since is None else 0
        if self.offset is None or position + self.offset + patience > played:
            self._late_since = None
            return False
        if self._late_since is None:
            self._late_since = played
        if played - self._late_since > LATE_SAMPLES_MAX:
            self.offset = self._late_since = None
            return False
        self.late_frames += 1
        return True

    def place(self, pcm: Samples, position: int, *, head: int, played: int) -> Samples:
        """What to write for the answer float32 [n] to the frame captured at ``position``.

        Args:
            head: where the next sample written will be played; never before ``played``.
            played: where the speaker is.
        """
        due = self._due(position, played)
        gap = due - head
        if self._started and abs(gap) <= TOLERANCE_SAMPLES:
            gap = 0
        if gap < 0:
            written = cut_quietly(pcm, -gap)
            self.cuts += len(pcm) > len(written)
        else:
            written = np.concatenate((np.zeros(gap, dtype=np.float32), pcm)) if gap else pcm
            self.gaps += gap > 0 and self._started
        self._started = True
        return written

    def _due(self, position: int, played: int) -> int:
        if self.offset is None:
            self.offset = played + self._margin - position
            self._headroom.clear()
        headroom = position + self.offset - played
        if headroom < 0:
            self.offset += self._margin - headroom
            self._headroom.clear()
        else:
            self._headroom.append(headroom)
            self._come_closer()
        return position + self.offset

    def _come_closer(self) -> None:
        if len(self._headroom) < CALM_FRAMES or self.offset is None:
            return
        excess = min(self._headroom) - self._margin
        if excess > TOLERANCE_SAMPLES:
            self.offset -= min(excess, FRAME_SAMPLES - 2 * CROSS_FADE_SAMPLES)
            self._headroom.clear()


def cut_quietly(pcm: Samples, samples: int) -> Samples:
    """``pcm`` (float32 [n]) shorter by ``samples``, cut where it is quietest, cross-faded.

    Returns an empty array when that leaves no room for the cross-fade.
    """
    keep = len(pcm) - samples
    if samples <= 0:
        return pcm
    if keep < 2 * CROSS_FADE_SAMPLES:
        return _EMPTY
    fade = CROSS_FADE_SAMPLES
    energy = np.concatenate(([0.0], np.cumsum(np.square(pcm, dtype=np.float64))))
    starts = np.arange(0, keep - fade + 1)
    lost = energy[starts + samples + fade] - energy[starts]
    start = int(starts[np.argmin(lost)])
    rise = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    joint = pcm[start : start + fade] * (1 - rise)
    joint += pcm[start + samples : start + samples + fade] * rise
    return np.concatenate((pcm[:start], joint, pcm[start + samples + fade :]))
