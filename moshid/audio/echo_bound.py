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
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Samples

PIECE: Final = SAMPLE_RATE // 100
"""10 ms."""

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
        self._far: _Floats = np.zeros(_LAG_PIECES)
        self._near: _Floats = np.zeros(0)
        self._played: _Floats = np.zeros((0, _LAG_PIECES + 1))
        """What was played at each delay before a piece of ``_near``."""

    def feed(self, near: Samples, far: Samples) -> _Floats | None:
        """The power that the echo has at most in each piece: float64 [n / 240].

        None where it is not known to be next to nothing.

        Args:
            near: the microphone's frame or a part of it, in whole pieces: float32 [n].
            far: what the speaker played meanwhile, float32 [n].
        """
        far_powers = np.append(self._far, powers(far))
        self._far = far_powers[-_LAG_PIECES:]
        played = np.lib.stride_tricks.sliding_window_view(far_powers, _LAG_PIECES + 1)
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
    """Mean squares of pieces: float32 [n] → float64 [n / 240]."""
    squares: _Floats = np.mean(np.square(pcm.reshape(-1, PIECE), dtype=np.float64), axis=1)
    return squares
