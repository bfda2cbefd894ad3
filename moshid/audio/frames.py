"""The frame: 80 ms of sound at 24 kHz. Owns these numbers and the conversions between them."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from moshid.audio.ring import Samples

SAMPLE_RATE: Final = 24_000
FRAME_SAMPLES: Final = 1_920
FRAME_RATE_HZ: Final = SAMPLE_RATE / FRAME_SAMPLES
FRAME_S: Final = FRAME_SAMPLES / SAMPLE_RATE
FRAME_NS: Final = 80_000_000
SILENCE_DBFS: Final = -120.0


def silence(samples: int = FRAME_SAMPLES) -> Samples:
    """Zeros, float32 [samples]."""
    return np.zeros(samples, dtype=np.float32)


def level_dbfs(pcm: Samples) -> float:
    """Root mean square of float32 [n] in dB of full scale, not below ``SILENCE_DBFS``."""
    if not len(pcm):
        return SILENCE_DBFS
    mean_square = float(np.dot(pcm, pcm)) / len(pcm)
    return max(SILENCE_DBFS, 10 * math.log10(mean_square)) if mean_square > 0 else SILENCE_DBFS


def samples_ns(samples: float, rate: float = SAMPLE_RATE) -> int:
    """How long ``samples`` last at ``rate`` hertz, in nanoseconds."""
    return round(samples * 1e9 / rate)
