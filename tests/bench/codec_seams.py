"""What a swap does to codes and sound, beside a codec that was never swapped. Owns the measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from moshid.audio.codec import Tokens
from moshid.audio.frames import SAMPLE_RATE, level_dbfs
from moshid.audio.ring import Samples

AFTER_FRAMES: Final = 25
"""2 s after a swap are looked at."""

WINDOW: Final = SAMPLE_RATE // 50
FLOOR_DB: Final = -80.0


@dataclass(frozen=True, slots=True)
class Seam:
    """One swap."""

    frame: int
    tokens_equal: float
    """Of all tokens in the 2 s after it."""
    sound_mean_db: float
    """The difference of the two sounds, against the unswapped one, in the 2 s after it."""
    sound_worst_db: float
    """The same of the worst frame."""
    level_db: float
    """Difference of the two levels in the first frame after it."""
    spectrum_db: float
    """Log-spectral distance of the two sounds, over 160 ms around it, in windows of 20 ms."""
    step: float
    """The largest step from sample to sample at the joint, against the unswapped sound's there."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure(
    frame: int,
    codes: Sequence[tuple[Tokens, Tokens]],
    sound: Sequence[tuple[Samples, Samples]],
) -> Seam:
    """The swap before ``frame``: pairs of (swapped, unswapped), a frame each."""
    after = slice(frame, frame + AFTER_FRAMES)
    equal = np.mean([np.equal(ours, theirs) for ours, theirs in codes[after]])
    differences_db = [difference_db(ours, theirs) for ours, theirs in sound[after]]
    ours, theirs = (np.concatenate([p[i] for p in sound[frame - 1 : frame + 1]]) for i in (0, 1))
    first_ours, first_theirs = sound[frame]
    joint = slice(len(ours) // 2 - 2, len(ours) // 2 + 2)
    return Seam(
        frame=frame,
        tokens_equal=float(equal),
        sound_mean_db=float(np.mean(differences_db)),
        sound_worst_db=max(differences_db),
        level_db=level_dbfs(first_ours) - level_dbfs(first_theirs),
        spectrum_db=spectral_distance_db(ours, theirs),
        step=float(np.abs(np.diff(ours[joint])).max() - np.abs(np.diff(theirs[joint])).max()),
    )


def difference_db(ours: Samples, theirs: Samples) -> float:
    """Level of the difference of two sounds, float32 [n], against that of ``theirs``."""
    return level_dbfs(ours - theirs) - max(level_dbfs(theirs), FLOOR_DB)


def spectral_distance_db(ours: Samples, theirs: Samples) -> float:
    """Root mean square of the difference of two log spectra, in dB; nothing below -80 counts."""
    a, b = (np.maximum(20 * np.log10(spectra(pcm) + 1e-12), FLOOR_DB) for pcm in (ours, theirs))
    return float(np.sqrt(np.mean(np.square(a - b))))


def spectra(pcm: Samples) -> Samples:
    """Magnitudes [windows, bins] of windows of 20 ms, half overlapping; full scale is 1."""
    hann = np.hanning(WINDOW).astype(np.float32)
    starts = range(0, len(pcm) - WINDOW + 1, WINDOW // 2)
    windows = np.stack([pcm[s : s + WINDOW] * hann for s in starts])
    return (np.abs(np.fft.rfft(windows, axis=1)) / (WINDOW / 4)).astype(np.float32)
