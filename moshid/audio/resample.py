"""From one sample rate to another, chunk by chunk. Owns the choice of the resampler.

Devices get our own (``sinc``): it holds back 1.3 ms and its ratio can be steered, which takes the
drift between two clocks away. soxr holds back 38 ms in its fixed-rate modes and 5 to 12 ms in its
variable-rate mode (measured), which a conversation would hear. Files get soxr's exact mode.
"""

from __future__ import annotations

import numpy as np
import soxr

from moshid.audio.ring import Samples
from moshid.audio.sinc import SincResampler


class Resampler:
    """Mono float32 from ``rate_in`` to ``rate_out`` hertz; equal rates pass through untouched,
    unless the ratio is to be ``steered``."""

    def __init__(
        self, rate_in: float, rate_out: float, *, live: bool, steered: bool = False
    ) -> None:
        self.ratio = rate_out / rate_in
        """The nominal one."""
        self.passes_through = rate_in == rate_out and not steered
        self._rate_in = rate_in
        self._steer = 0.0
        self._exact: soxr.ResampleStream | None = None
        self._live: SincResampler | None = None
        if live and not self.passes_through:
            self._live = SincResampler(rate_in, rate_out)
        elif not self.passes_through:
            self._exact = soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")

    @property
    def delay_s(self) -> float:
        """Upper bound of what it holds back when live."""
        return 0.0 if self._live is None else self._live.inside_max / self._rate_in

    @property
    def inside(self) -> float:
        """Input samples of which the output does not speak yet, when live."""
        return 0.0 if self._live is None else self._live.inside

    def steer(self, change: float) -> None:
        """From here on give ``1 + change`` times as many samples as the nominal ratio says."""
        self._steer = change

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """What is ready after ``samples`` (float32 [n]); with ``last`` everything."""
        if self._live is not None:
            return self._live.feed(samples, self.ratio * (1.0 + self._steer))
        if self._exact is None:
            return samples
        return np.asarray(self._exact.resample_chunk(samples, last=last), dtype=np.float32)
