"""How far what was heard lags what was played: by the waveform, to the sample, or by its loudness.

Owns the correlations that the demonstration, the tests and the benchmarks measure with. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

ENVELOPE_S: Final = 0.01


def lag_samples(played: Samples, recorded: Samples) -> int:
    """By how many samples float32 ``recorded`` [n] lags ``played`` [n]: the peak of their
    cross-correlation among lags from 0."""
    size = 2 ** int(np.ceil(np.log2(len(played) + len(recorded))))
    spectrum = np.conj(np.fft.rfft(played, size)) * np.fft.rfft(recorded, size)
    correlation = np.fft.irfft(spectrum, size)[: len(recorded)]
    return int(np.argmax(np.abs(correlation)))


def envelope_lag(
    played: Samples,
    recorded: Samples,
    rate: int,
    *,
    lag_s_max: float = 2.0,
    step_s: float = ENVELOPE_S,
) -> tuple[float, float]:
    """``(lag in seconds, correlation there)`` of the loudness, in steps of 10 ms or ``step_s``.

    For sound that comes back in another voice, where waveforms have nothing in common.
    """
    a, b = envelope(played, rate, step_s), envelope(recorded, rate, step_s)
    steps = range(min(round(lag_s_max / step_s), len(b) - 2))
    scores = [_correlation(a[: len(b) - k], b[k : k + len(a)]) for k in steps]
    best = int(np.argmax(scores))
    return best * step_s, float(scores[best])


def envelope(pcm: Samples, rate: int, step_s: float = ENVELOPE_S) -> npt.NDArray[np.float64]:
    """Root mean square of each ``step_s`` of float32 [n]."""
    step = round(step_s * rate)
    whole = np.asarray(pcm[: len(pcm) // step * step], dtype=np.float64)
    return np.asarray(np.sqrt(np.square(whole.reshape(-1, step)).mean(axis=1)))


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    n = min(len(a), len(b))
    a, b = a[:n] - a[:n].mean(), b[:n] - b[:n].mean()
    norm = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b)) / norm if norm else 0.0
