"""Where the near voice is louder than any rest of echo, it passes unsuppressed. Owns that choice.

The suppressor has to guess how much echo is left; from how well the subtraction works when nobody
else speaks, it is known. In each 10 ms in which what is left after subtraction is far louder than
that, somebody near speaks, and what echo there is lies beneath the voice: then the suppressor's
output gives way to the subtraction's.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from moshid.audio.echo_bound import PIECE, powers
from moshid.audio.ring import Samples

NONE_DB: Final = 10.0
"""Up to here above the expected rest of echo all is suppressed as the library wants,"""

ALL_DB: Final = 20.0
"""and from here on nothing."""

FLOOR: Final = 1e-8
"""-80 dB: what is quieter than this is no voice."""

DECAY: Final = 0.8
"""Per piece: the room keeps on sounding for some tens of milliseconds."""

HOLD: Final = 0.9
"""Per piece: words end softly."""

_Floats = npt.NDArray[np.float64]


class NearMix:
    """Frame after frame; ``delay`` is by how much the suppressor's output comes later."""

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._rest: Samples = np.zeros(delay, dtype=np.float32)
        self._shares: Samples = np.zeros(delay, dtype=np.float32)
        self._echo_power = 0.0
        self._share = 0.0

    def mix(
        self,
        rest: Samples,
        echo: Samples,
        suppressed: Samples,
        leak: float | None,
        at_most: _Floats | None = None,
    ) -> Samples:
        """A frame, or a part of one in whole pieces of 10 ms.

        Args:
            rest: after subtraction, float32 [n].
            echo: what was subtracted, float32 [n].
            suppressed: the suppressor's output, float32 [n], ``delay`` samples late.
            leak: power of what subtraction leaves when only the speaker sounds, as a share of
                ``echo``'s; None: not known.
            at_most: the power that any echo has at most in each 10 ms, float64 [n / 240]; None: not
                known. Where neither is known all is suppressed.
        """
        shares = self._piece_shares(rest, echo, leak, at_most)
        self._rest = np.concatenate((self._rest, rest))
        self._shares = np.concatenate((self._shares, shares))
        late, share = self._rest[: len(rest)], self._shares[: len(rest)]
        self._rest, self._shares = self._rest[len(rest) :], self._shares[len(rest) :]
        return suppressed + share * (late - suppressed)

    def _piece_shares(
        self, rest: Samples, echo: Samples, leak: float | None, at_most: _Floats | None
    ) -> Samples:
        knots = [self._share]
        for piece, (rest_power, echo_power) in enumerate(
            zip(powers(rest), powers(echo), strict=True)
        ):
            self._echo_power = max(float(echo_power), DECAY * self._echo_power)
            left = [] if leak is None else [leak * self._echo_power]
            if at_most is not None:
                left.append(float(at_most[piece]))
            share = _share(float(rest_power), min(left)) if left else 0.0
            self._share = max(share, HOLD * self._share)
            knots.append(self._share)
        at = np.arange(len(rest)) / PIECE
        return np.interp(at, np.arange(len(knots)), knots).astype(np.float32)


def _share(rest_power: float, echo_power: float) -> float:
    """Of what is to pass as it is, when so much of ``rest_power`` may be echo."""
    above_db = 10 * np.log10((rest_power + FLOOR) / (echo_power + FLOOR))
    return float(np.clip((above_db - NONE_DB) / (ALL_DB - NONE_DB), 0.0, 1.0))
