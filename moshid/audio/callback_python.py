"""Sound in and out by a callback in Python, where rtmixer is missing. Owns it and its two rings.

It runs on PortAudio's thread under the GIL. It copies between PortAudio's buffers and preallocated
rings and sets a few counters: no lock, no log, no queue, no system call. It does not even wake the
main thread: a write to a pipe lets go of the GIL, and getting it back may take a whole switch
interval. The main thread knows when a frame will be complete and looks then.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sounddevice as sd

from moshid.audio.ring import Ring, Samples

RING_S: Final = 4
BLOCK_FRAMES_MAX: Final = 96_000

_Block = npt.NDArray[np.float32]
"""Shape [frames, channels]."""


class PythonCallback:
    """A stream that has not started, served by Python.

    Raises:
        sounddevice.PortAudioError: PortAudio refuses to open it.
    """

    running = True

    def __init__(
        self, input_channels: int | None, output_channels: int | None, options: dict[str, Any]
    ) -> None:
        self.stamp_ns = time.monotonic_ns()
        self._channels = input_channels or 0
        self._share = np.float32(1 / (input_channels or 1))
        self._mono: Samples = np.zeros(BLOCK_FRAMES_MAX, dtype=np.float32)
        self._part: Samples = np.zeros(BLOCK_FRAMES_MAX, dtype=np.float32)
        options = options | {"dtype": "float32"}
        if input_channels is None:
            self.stream = sd.OutputStream(channels=output_channels, callback=self.play, **options)
        elif output_channels is None:
            self.stream = sd.InputStream(channels=input_channels, callback=self.hear, **options)
        else:
            channels = (input_channels, output_channels)
            self.stream = sd.Stream(channels=channels, callback=self.hear_and_play, **options)
        rate = float(self.stream.samplerate)
        self.heard = Ring(round(RING_S * rate))
        self.to_play = Ring(round(RING_S * rate))
        self._hears = input_channels is not None
        self.xruns = 0

    @property
    def heard_total(self) -> int:
        """Samples that came from the device since it started."""
        return self.heard.written + self.heard.overrun

    @property
    def played(self) -> int:
        """Samples that the device has taken, silence included."""
        return self.to_play.read_total + self.to_play.underrun

    def look(self, now_ns: int, *, anew: bool) -> int:  # noqa: ARG002
        """The samples that have gone by."""
        return self.heard_total if self._hears else self.played

    def hear_and_play(
        self, indata: _Block, outdata: _Block, frames: int, _time: Any, status: Any
    ) -> None:
        """PortAudio's callback for both directions."""
        self._copy_in(indata, frames)
        self._copy_out(outdata, frames)
        self._mark(status)

    def hear(self, indata: _Block, frames: int, _time: Any, status: Any) -> None:
        """PortAudio's callback for a microphone alone."""
        self._copy_in(indata, frames)
        self._mark(status)

    def play(self, outdata: _Block, frames: int, _time: Any, status: Any) -> None:
        """PortAudio's callback for a speaker alone."""
        self._copy_out(outdata, frames)
        self._mark(status)

    def _copy_in(self, indata: _Block, frames: int) -> None:
        # Not np.mean: it takes memory for a copy of the block.
        mono = self._mono[:frames]
        np.multiply(indata[:, 0], self._share, out=mono)
        for channel in range(1, self._channels):
            np.multiply(indata[:, channel], self._share, out=self._part[:frames])
            np.add(mono, self._part[:frames], out=mono)
        self.heard.write(mono)

    def _copy_out(self, outdata: _Block, frames: int) -> None:
        mono = self._mono[:frames]
        self.to_play.read_into(mono)
        outdata[:] = mono[:, None]

    def _mark(self, status: Any) -> None:
        self.xruns += bool(status)
        self.stamp_ns = time.monotonic_ns()
