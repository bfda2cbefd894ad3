"""Resampling by a windowed sinc at a ratio that may change with every call. Owns the arithmetic.

Each output sample is a weighted sum of the input samples around its place on the input's time
line, and that place is known exactly (J. O. Smith, "Digital Audio Resampling"): so nothing is held
back but the half of the window that lies ahead, 1.3 ms, and no rounding adds up over the hours.
Between 256 stored phases of the window, weights are interpolated.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

HALF_S: Final = 0.00134
HALF_MIN: Final = 24
"""Half the window's length: 64 weights at 24 kHz, never fewer than 48."""

PHASES: Final = 256
KAISER_BETA: Final = 9.0
ROLL_OFF: Final = 0.93
"""Of the lower rate's half: flat up to 10 kHz at 24 kHz, and 90 dB down from 12.6 kHz on."""


class SincResampler:
    """Mono float32, ``ratio`` output samples for each input sample."""

    def __init__(self, rate_in: float, rate_out: float) -> None:
        self.ratio = rate_out / rate_in
        self._half = max(HALF_MIN, round(HALF_S * rate_in))
        self._weights, self._slopes = _window(self._half, min(1.0, self.ratio))
        self._kept: Samples = np.zeros(self._half - 1, dtype=np.float32)
        self._at = 0.0
        """Where in ``_kept`` the next output sample's window begins."""

    @property
    def inside(self) -> float:
        """Input samples fed whose turn in the output has not come."""
        return len(self._kept) - self._at - (self._half - 1)

    @property
    def inside_max(self) -> float:
        """The most that ``inside`` can be after ``feed``."""
        return self._half + 1 + 1 / self.ratio

    def feed(self, samples: Samples, ratio: float) -> Samples:
        """What is ready after ``samples`` (float32 [n]), at ``ratio`` from here on."""
        kept = np.concatenate((self._kept, samples))
        width = 2 * self._half
        step = 1.0 / ratio
        count = int((len(kept) - width - self._at) // step) + 1
        if count <= 0:
            self._kept = kept
            return np.zeros(0, dtype=np.float32)
        places = self._at + step * np.arange(count + 1)
        starts = places.astype(np.int64)
        phases = (places - starts) * PHASES
        rows = phases.astype(np.int64)
        rest = (phases - rows).astype(np.float32)[:count]
        windows = np.lib.stride_tricks.sliding_window_view(kept, width)[starts[:count]]
        out = np.einsum("ij,ij->i", windows, self._weights[rows[:count]])
        out += rest * np.einsum("ij,ij->i", windows, self._slopes[rows[:count]])
        self._at = float(places[count] - starts[count])
        self._kept = kept[starts[count] :]
        return np.asarray(out, dtype=np.float32)


def _window(half: int, bandwidth: float) -> tuple[Samples, Samples]:
    """Weights float32 [PHASES, 2 * half] and their steps to the next phase."""
    cut = bandwidth * ROLL_OFF
    taps = np.arange(-half + 1, half + 1)
    distance = taps[None, :] - np.arange(PHASES + 1)[:, None] / PHASES
    kaiser = np.i0(KAISER_BETA * np.sqrt(np.clip(1 - np.square(distance / half), 0, None)))
    weights = np.sinc(cut * distance) * kaiser
    weights /= weights.sum(axis=1, keepdims=True)
    return (
        np.asarray(weights[:-1], dtype=np.float32),
        np.asarray(np.diff(weights, axis=0), dtype=np.float32),
    )
