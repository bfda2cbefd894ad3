"""How likely it is that a frame holds speech. Owns the choice of detector: WebRTC's, or by energy.

WebRTC's detector (in pywebrtc_audio) tells speech from noise, tones and clicks, at 0.15 ms a frame
here. It freezes in digital silence, and so is not asked there. Without the library a frame counts
by how far it stands out of the noise of the last seconds, which takes any sound for speech.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final, Protocol

from moshid.audio.frames import FRAME_RATE_HZ, SAMPLE_RATE, level_dbfs
from moshid.audio.ring import Samples

QUIET_DBFS: Final = -65.0
"""Whatever is quieter is no speech that a model could follow."""

FLOOR_FRAMES: Final = round(4 * FRAME_RATE_HZ)
"""Within so many frames even a quick speaker draws breath: the quietest is the noise."""

SPEECH_OVER_NOISE_DB: Final = 12.0
SLOPE_DB: Final = 2.5


class SpeechDetector(Protocol):
    """Gives each frame a probability."""

    def probability(self, pcm: Samples) -> float:
        """That float32 [1920] at 24 kHz holds speech, 0 to 1. To be asked frame by frame."""


class WebRtcDetector:
    """By WebRTC's recurrent network; raises ImportError where the library is not installed."""

    def __init__(self) -> None:
        import pywebrtc_audio

        # Of its classes only this one takes 24 kHz; with nothing turned on it is the detector.
        self._processor: Any = pywebrtc_audio.AudioProcessor(sample_rate=SAMPLE_RATE)

    def probability(self, pcm: Samples) -> float:
        """See the Protocol."""
        if level_dbfs(pcm) < QUIET_DBFS:
            return 0.0
        self._processor.process(pcm)
        return float(self._processor.speech_probability)


class EnergyDetector:
    """By the level over the quietest of the last four seconds."""

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=FLOOR_FRAMES)

    def probability(self, pcm: Samples) -> float:
        """See the Protocol."""
        level = level_dbfs(pcm)
        self._levels.append(max(level, QUIET_DBFS))
        if level < QUIET_DBFS:
            return 0.0
        over_db = level - min(self._levels) - SPEECH_OVER_NOISE_DB
        return 1.0 / (1.0 + math.exp(-over_db / SLOPE_DB))


def open_detector() -> SpeechDetector:
    """The best one that is installed."""
    try:
        return WebRtcDetector()
    except ImportError:
        return EnergyDetector()
