"""WebRTC's audio processing for one talk. Owns the library's name and its settings.

Of its Python packages, pywebrtc-audio is the one that takes 24 kHz (by resampling to 32) and
frames of any length, and lets go of the GIL. Making one raises ImportError where the library has no
wheel.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Samples

ECHO_DELAY: Final = 223
NOISE_DELAY: Final = 175
GAIN_DELAY: Final = 31
"""By how many samples the sound comes out later: measured."""

NOISE_LEVEL: Final = 1
"""12 dB: more of it makes speech sound thin."""

GAIN_DB_MAX: Final = 24.0
"""Enough for a voice across the room; more would lift the room itself."""


class EchoSuppressor:
    """AEC3: takes what is left of the far sound out of the near one."""

    delay = ECHO_DELAY

    def __init__(self) -> None:
        from pywebrtc_audio import AudioProcessor

        self._processor: Any = AudioProcessor(sample_rate=SAMPLE_RATE, echo_cancellation=True)

    def process(self, near: Samples, far: Samples) -> Samples:
        """float32 [1920], float32 [1920] → float32 [1920], ``delay`` samples later."""
        return np.asarray(self._processor.process(near, far), dtype=np.float32)

    def reset(self) -> None:
        """Forget what was heard: suppress strongly until the room is known."""
        self._processor.reset()


class Polish:
    """Noise suppression and automatic gain (AGC2)."""

    def __init__(self, *, noise_suppression: bool, auto_gain: bool) -> None:
        from pywebrtc_audio import AudioProcessor

        self.delay = NOISE_DELAY if noise_suppression else GAIN_DELAY
        self._processor: Any = AudioProcessor(
            sample_rate=SAMPLE_RATE,
            noise_suppression=noise_suppression,
            ns_level=NOISE_LEVEL,
            auto_gain_control=auto_gain,
            agc_max_gain_db=GAIN_DB_MAX,
        )

    def process(self, near: Samples) -> Samples:
        """float32 [1920] → float32 [1920], ``delay`` samples later."""
        return np.asarray(self._processor.process(near), dtype=np.float32)
