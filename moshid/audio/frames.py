"""The frame: 80 ms of sound at 24 kHz. Owns these numbers and the conversions between them."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from moshid.audio.ring import Samples

SAMPLE_RATE: Final = 24_000
FRAME_SAMPLES: Final = 1_920
HALF_SAMPLES: Final = FRAME_SAMPLES // 2
"""Mimi works at 25 Hz inside: a step of its encoder takes so much."""

FRAME_RATE_HZ: Final = SAMPLE_RATE / FRAME_SAMPLES
FRAME_S: Final = FRAME_SAMPLES / SAMPLE_RATE
FRAME_NS: Final = 80_000_000
SILENCE_DBFS: Final = -120.0


def silence(samples: int = FRAME_SAMPLES) -> Samples:
    """Zeros, float32 [samples]."""
    return np.zeros(samples, dtype=np.float32)


def to_int16(pcm: Samples) -> npt.NDArray[np.int16]:
    """float32 [n] as 16 bits, by the rule of upstream's ``write_wav``: times 32,767, and cut off
    rather than rounded. So what we write is what ``run_inference`` writes."""
    return (np.clip(np.nan_to_num(pcm), -1.0, 1.0) * np.float32(32767.0)).astype("<i2")


def from_int16(data: bytes) -> Samples:
    """16 bits, little-endian, as float32 [n], by the rule of all readers: by 32,768."""
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768.0)


def level_dbfs(pcm: Samples) -> float:
    """Root mean square of float32 [n] in dB of full scale, not below ``SILENCE_DBFS``."""
    if not len(pcm):
        return SILENCE_DBFS
    mean_square = float(np.dot(pcm, pcm)) / len(pcm)
    return max(SILENCE_DBFS, 10 * math.log10(mean_square)) if mean_square > 0 else SILENCE_DBFS


def samples_ns(samples: float, rate: float = SAMPLE_RATE) -> int:
    """How long ``samples`` last at ``rate`` hertz, in nanoseconds."""
    return round(samples * 1e9 / rate)
