"""How much later the microphone hears what the speaker plays. Owns the search, and when it is sure.

Generalised cross-correlation with phase transform (C. Knapp and G. Carter, 1976), over the last
seconds in which the speaker spoke, at lags of 0 to 720 ms. Each frame is whitened by itself, so
that a loud one counts no more than any other.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.fft import irfft, rfft

from moshid.audio.frames import FRAME_SAMPLES
from moshid.audio.ring import Samples

PARTITIONS: Final = 9
LAGS: Final = PARTITIONS * FRAME_SAMPLES
"""Samples at 24 kHz: 720 ms."""

FORGET: Final = 0.97
"""Per frame: the correlation remembers about 2.5 s."""

SURE: Final = 25.0
"""Peak over root mean square of the correlation: 4 to 14 for unrelated sounds, 30 to 110 for an
echo, however loud the near voice."""

EARLY: Final = 0.5
"""The direct sound is the first peak of at least this share of the highest."""

FRAMES_MIN: Final = 5
AGREE: Final = 3
"""Looks, one after the other, that have to name the same lag."""

SAME_SAMPLES: Final = 24
_Spectra = npt.NDArray[np.complex64]


class DelaySearch:
    """Feed it frames in which the speaker speaks; ``lag`` is None until it is sure."""

    def __init__(self) -> None:
        bins = FRAME_SAMPLES + 1
        self.lag: int | None = None
        """Samples from the far sound to its first arrival."""
        self._far: _Spectra = np.zeros((PARTITIONS, bins), dtype=np.complex64)
        self._cross: _Spectra = np.zeros((PARTITIONS, bins), dtype=np.complex64)
        self._last: Samples = np.zeros(FRAME_SAMPLES, dtype=np.float32)
        self._frames = 0
        self._candidate: int | None = None
        self._agreed = 0

    def feed(self, near: Samples, far: Samples, *, look: bool) -> None:
        """One frame of both sides: float32 [1920] each. ``look``: the speaker spoke, so judge."""
        spectrum = rfft(np.concatenate((self._last, far)))
        self._last = far
        self._far = np.roll(self._far, 1, axis=0)
        self._far[0] = _white(spectrum).conj()
        if not look:
            return
        heard = rfft(np.concatenate((np.zeros_like(near), near)))
        self._cross = np.float32(FORGET) * self._cross + _white(heard) * self._far
        self._frames += 1
        if self._frames >= FRAMES_MIN:
            self._look()

    def _look(self) -> None:
        lag = self._peak()
        same = (
            lag is not None
            and self._candidate is not None
            and abs(lag - self._candidate) <= SAME_SAMPLES
        )
        self._agreed = self._agreed + 1 if same else 0
        self._candidate = lag
        if lag is not None and self._agreed >= AGREE:
            self.lag = lag

    def _peak(self) -> int | None:
        height = np.abs(irfft(self._cross)[:, :FRAME_SAMPLES]).reshape(-1)
        highest = float(height.max())
        if highest < SURE * float(np.sqrt(np.mean(height**2))):
            return None
        return int(np.argmax(height >= EARLY * highest))


def _white(spectrum: npt.NDArray[np.complexfloating[Any, Any]]) -> _Spectra:
    white: _Spectra = (spectrum / (np.abs(spectrum) + 1e-6)).astype(np.complex64)
    return white
