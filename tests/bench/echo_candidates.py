"""The echo cancellers that the benchmark compares: nothing, two libraries as they come, ours."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.webrtc import ECHO_DELAY, EchoSuppressor
from tests.fakes.echo_runs import Chain, Ours
from tests.fakes.rooms import Samples

Candidate = Callable[[], Chain]
TEN_MS: Final = SAMPLE_RATE // 100


class Nothing:
    """The microphone as it is."""

    delay = 0

    def process(self, near: Samples, far: Samples) -> Samples:  # noqa: ARG002
        """Through."""
        return near


class Pywebrtc:
    """pywebrtc-audio's AudioProcessor, which estimates the delay itself."""

    delay = ECHO_DELAY

    def __init__(self) -> None:
        self._webrtc = EchoSuppressor()

    def process(self, near: Samples, far: Samples) -> Samples:
        """By the library alone."""
        return self._webrtc.process(near, far)


class Livekit:
    """livekit's AudioProcessingModule, in 16 bits and pieces of 10 ms."""

    delay = 222

    def __init__(self) -> None:
        from livekit.rtc import AudioFrame
        from livekit.rtc.apm import AudioProcessingModule

        self._frame: Any = AudioFrame
        self._apm: Any = AudioProcessingModule(echo_cancellation=True)

    def process(self, near: Samples, far: Samples) -> Samples:
        """By the library alone."""
        out = []
        for at in range(0, FRAME_SAMPLES, TEN_MS):
            self._apm.process_reverse_stream(self._piece(far[at : at + TEN_MS]))
            self._apm.set_stream_delay_ms(0)
            heard = self._piece(near[at : at + TEN_MS])
            self._apm.process_stream(heard)
            out.append(np.frombuffer(bytes(heard.data), np.int16).astype(np.float32) / 32_768)
        return np.concatenate(out)

    def _piece(self, pcm: Samples) -> Any:
        samples = (np.clip(pcm, -1, 1) * 32_767).astype(np.int16)
        return self._frame(samples.tobytes(), SAMPLE_RATE, 1, TEN_MS)


def _candidates() -> dict[str, Candidate]:
    chosen: dict[str, Candidate] = {"nothing": Nothing, "pywebrtc-audio": Pywebrtc}
    if importlib.util.find_spec("livekit") is not None:
        chosen["livekit"] = Livekit
    chosen["ours, subtraction alone"] = lambda: Ours(suppressor=False)
    chosen["ours"] = Ours
    return chosen


CANDIDATES: Final = _candidates()
