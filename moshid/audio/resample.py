"""From one sample rate to another, chunk by chunk. Owns the choice of soxr's mode.

soxr's fixed-rate modes, from MQ upwards, hold back 38 ms at our chunk lengths (measured), which a
conversation would hear. Its variable-rate mode hands samples on after 5 to 10 ms, and shifts them
by up to two samples: good for devices, while files get the exact mode.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import soxr

from moshid.audio.ring import Samples

DELAY_S_MAX: Final = 0.0105
"""Sound that may be inside the resampler, not handed on yet."""


class Resampler:
    """Mono float32 from ``rate_in`` to ``rate_out`` hertz; equal rates pass through untouched."""

    def __init__(self, rate_in: float, rate_out: float, *, live: bool) -> None:
        self.ratio = rate_out / rate_in
        self.passes_through = rate_in == rate_out
        self._stream = (
            None
            if self.passes_through
            else soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ", vr=live)
        )

    @property
    def delay_s(self) -> float:
        """Upper bound of what it holds back when live."""
        return 0.0 if self.passes_through else DELAY_S_MAX

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """What is ready after ``samples`` (float32 [n]); with ``last`` everything."""
        if self._stream is None:
            return samples
        return np.asarray(self._stream.resample_chunk(samples, last=last), dtype=np.float32)
