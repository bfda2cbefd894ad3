"""How much echo there can be at most, known from the pauses of whoever is near. Owns that bound.

What the microphone hears while the speaker speaks is at least the echo: the quietest of such
moments tells what the echo cannot exceed. Where that is next to nothing (headphones, a speaker
that is turned down or in another room) nobody's voice needs to be suppressed, though there is no
echo from which a filter or a suppressor could learn that.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from moshid.audio.echo_delay import LAGS
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.ring import Samples

PIECE: Final = SAMPLE_RATE // 100
PIECES: Final = FRAME_SAMPLES // PIECE
"""Pieces of 10 ms in a frame."""

MEMORY: Final = 200
"""Pieces: 2 s in which the speaker spoke. Somebody near who makes no pause for so long, or a room
that has changed, lets the bound rise again."""

LOUD_POWER: Final = 1e-5
"""-50 dB of full scale: what the speaker plays then is worth listening for."""

LOUD_MIN: Final = 20
"""Loud pieces, at each delay, from which something may be concluded."""

UNHEARD: Final = 1e-3
"""-30 dB: an echo that much below what is played can be left as it is."""

_LAG_PIECES: Final = LAGS // PIECE
_Floats = npt.NDArray[np.float64]


class EchoBound:
    """Feed it each frame of both sides. Time in which nothing is played does not count."""

    def __init__(self) -> None:
        self._far: _Floats = np.zeros(_LAG_PIECES + PIECES)
        self._near: _Floats = np.zeros(0)
        self._played: _Floats = np.zeros((0, _LAG_PIECES + 1))
        """What was played at each delay before a piece of ``_near``."""

    def feed(self, near: Samples, far: Samples) -> _Floats | None:
        """The power that the echo has at most in each piece of the frame: float64 [8].

        None where it is not known to be next to nothing.

        Args:
            near: the microphone's frame, float32 [1920].
            far: what the speaker played meanwhile, float32 [1920].
        """
        self._far = np.append(self._far[PIECES:], powers(far))
        played = np.lib.stride_tricks.sliding_window_view(self._far, _LAG_PIECES + 1)
        if played.max() > LOUD_POWER:
            self._near = np.append(self._near, powers(near))[-MEMORY:]
            self._played = np.append(self._played, played, axis=0)[-MEMORY:]
        coupling = self._coupling()
        if coupling is None or coupling > UNHEARD:
            return None
        at_most: _Floats = coupling * played.max(axis=1)
        return at_most

    def _coupling(self) -> float | None:
        """The echo's power as a share of what is played, at most; None: nothing is known."""
        loud = self._played > LOUD_POWER
        if loud.sum(axis=0).min() < LOUD_MIN:
            return None
        shares = self._near[:, None] / np.maximum(self._played, LOUD_POWER)
        return float(np.where(loud, shares, np.inf).min(axis=0).max())


def powers(pcm: Samples) -> _Floats:
    """Mean squares of a frame's pieces: float32 [1920] → float64 [8]."""
    squares: _Floats = np.mean(np.square(pcm.reshape(PIECES, PIECE), dtype=np.float64), axis=1)
    return squares
