"""Both sides of a talk on one time line. Owns where each piece stands. Pure.

Positions are samples at 24 kHz on the clock of capture, as everywhere. What comes from the
microphone says its own position. What is played is placed by the time at which it is heard: that
is known to some milliseconds only, so a piece follows the one before it unless it is clearly
elsewhere, and small differences, as of two clocks, are made good where Moshi is silent.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, level_dbfs
from moshid.audio.playout import cut_quietly
from moshid.audio.ring import Samples

Stereo = npt.NDArray[np.int16]
"""Shape [n, 2]: the user, Moshi."""

Piece = Stereo | int
"""Sound, or so many samples of silence: hours of it, where a device was away so long."""

WINDOW_SAMPLES: Final = 2 * SAMPLE_RATE
SLACK_SAMPLES: Final = 8 * FRAME_SAMPLES
"""What was captured waits so long for what is played meanwhile."""

JUMP_SAMPLES: Final = SAMPLE_RATE // 25
"""40 ms: more than the times are off; a pause, a late answer or a cut."""

SLIP_SAMPLES: Final = SAMPLE_RATE // 100
SLIP_FRAMES: Final = 25
QUIET_DBFS: Final = -50.0


class PlayedLine:
    """Puts the pieces that are played one behind the other."""

    def __init__(self) -> None:
        self._end = 0
        self._errors: deque[int] = deque(maxlen=SLIP_FRAMES)

    def place(self, pcm: Samples, wanted: int) -> tuple[Samples, int]:
        """Where float32 [n], heard at about ``wanted``, stands: the piece (shorter, if it would
        overlap the one before) and its position."""
        error = wanted - self._end
        self._errors.append(error)
        slip = round(median(self._errors)) if len(self._errors) == SLIP_FRAMES else 0
        if abs(error) > JUMP_SAMPLES:
            move = error
        elif abs(slip) > SLIP_SAMPLES and level_dbfs(pcm) < QUIET_DBFS:
            move = slip
        else:
            move = 0
        if move:
            self._errors.clear()
        if move < 0:
            pcm = cut_quietly(pcm, -move)
        position = self._end + max(0, move)
        self._end = position + len(pcm)
        return pcm, position


class Mixer:
    """Collects both sides and gives out what can no longer change."""

    def __init__(self, begin: int = 0) -> None:
        """What is before ``begin`` has been given out by another."""
        self.begin = begin
        """The first position that has not been given out."""
        self.lost_samples = 0
        """Samples that came for a place given out already."""
        self._end = begin
        self._window = np.zeros((WINDOW_SAMPLES, 2), dtype=np.float32)

    def put(self, side: int, pcm: Samples, position: int) -> list[Piece]:
        """Lay float32 [n] on ``side`` (0: the user, 1: Moshi); returns what had to make room."""
        out = self.take(position + len(pcm) - WINDOW_SAMPLES)
        late = max(0, self.begin - position)
        self.lost_samples += min(late, len(pcm))
        pcm, at = pcm[late:], position + late - self.begin
        self._window[at : at + len(pcm), side] = pcm
        if len(pcm):
            self._end = max(self._end, position + late + len(pcm))
        return out

    def take(self, until: int) -> list[Piece]:
        """Everything before ``until``: what stands in the window, and the silence beyond it."""
        out: list[Piece] = []
        if until > self.begin:
            n = min(until - self.begin, WINDOW_SAMPLES)
            out.append(_as_int16(self._window[:n]))
            self._window[: WINDOW_SAMPLES - n] = self._window[n:]
            self._window[WINDOW_SAMPLES - n :] = 0.0
            self.begin += n
        if until > self.begin:
            out.append(until - self.begin)
            self.begin = until
        return out

    def rest(self) -> list[Piece]:
        """Everything that is left."""
        return self.take(self._end)


def _as_int16(pcm: npt.NDArray[np.float32]) -> Stereo:
    rounded: Stereo = np.rint(np.clip(pcm, -1.0, 1.0) * 32767.0).astype("<i2")
    return rounded
