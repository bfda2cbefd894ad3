"""One PortAudio stream for both directions. Owns the stream, its callback and its rings.

The callback runs on PortAudio's thread under the GIL. It copies between PortAudio's buffers and
preallocated rings and sets a few counters: no lock, no log, no queue, no system call. It does not
even wake the main thread: a write to a pipe lets go of the GIL, and getting it back may take a
whole switch interval. The main thread knows when a frame will be complete and looks then.
"""

from __future__ import annotations

import time
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import sounddevice as sd

from moshid.audio.device_list import Device
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Ring, Samples
from moshid.errors import DeviceFailed

RING_S: Final = 4
CALLBACK_AGE_NS_MAX: Final = 1_000_000_000
"""A stream whose callback has not come for this long has failed without saying so."""

BLOCK_FRAMES_MAX: Final = 96_000
START_NS_MAX: Final = 10_000_000_000
STEADY_BLOCKS: Final = 100
"""PulseAudio may pause for two seconds after its first blocks, a Bluetooth headset for longer:
until so many have come, the callback may stay away for ``START_NS_MAX``."""

SHORT_BUFFER_APIS: Final = ("JACK Audio Connection Kit", "Core Audio")
"""Here the host's own block at its lowest latency is steady, and the fastest by 10 ms. Elsewhere
(ALSA, PulseAudio under it) that stutters; blocks of 10 ms with the high latency do not."""

RATES: Final = (SAMPLE_RATE, 48_000, 44_100)

_Block = npt.NDArray[np.float32]
"""Shape [frames, channels]."""


class PortAudioStream:
    """One stream for both directions, or for one when the other is a file.

    Raises:
        DeviceFailed: PortAudio refuses to open or start it.
    """

    def __init__(self, input_: Device | None, output: Device | None) -> None:
        self.input = input_
        self.output = output
        self.blocks = 0
        self.stamp_ns = time.monotonic_ns()
        self._closed = self._gone = False
        self._stream = self._open()
        self.rate = float(self._stream.samplerate)
        self.heard = Ring(round(RING_S * self.rate))
        self.to_play = Ring(round(RING_S * self.rate))
        self._mono: Samples = np.zeros(BLOCK_FRAMES_MAX, dtype=np.float32)
        self._base: tuple[int, int] | None = None
        try:
            self._stream.start()
        except sd.PortAudioError as e:
            self.close()
            raise DeviceFailed(f"the sound device did not start: {e}") from e

    @property
    def latency_s(self) -> float:
        """What PortAudio says that its buffers and the device add, both directions together."""
        latency = self._stream.latency
        return float(sum(latency) if isinstance(latency, tuple) else latency)

    def base(self) -> tuple[int, int]:
        """Samples heard and played, at the stream's rate, when the session's clock started.

        The first call is that moment. Both counters move in the same callback, so they are read
        together: again, if a callback came in between.
        """
        while self._base is None:
            before = self.blocks
            pair = (self.heard.written + self.heard.overrun, self.played)
            if self.blocks == before:
                self._base = pair
                self.heard.read_total = self.heard.written
        return self._base

    @property
    def played(self) -> int:
        """Samples that the device has taken, silence included."""
        return self.to_play.read_total + self.to_play.underrun

    def check(self, now_ns: int) -> None:
        """Raise DeviceFailed when the stream has ended, or its callback has stopped coming."""
        if self._closed:
            raise DeviceFailed("the sound device is closed")
        if not self._stream.active:
            self._gone = True
            raise DeviceFailed("the sound device has gone")
        age_ns_max = CALLBACK_AGE_NS_MAX if self.blocks > STEADY_BLOCKS else START_NS_MAX
        if now_ns - self.stamp_ns > age_ns_max:
            self._gone = True
            raise DeviceFailed("the sound device does not work: its callback has stopped coming")

    def close(self) -> None:
        """Stop the stream and let the device go.

        A stream that has failed is left to the end of the process: PortAudio's JACK part would wait
        for ever for the server that has gone.
        """
        if not self._closed and not self._gone:
            self._stream.close(ignore_errors=True)
        self._closed = True

    def _open(self) -> Any:
        apis = {d.hostapi for d in (self.input, self.output) if d is not None}
        if len(apis) > 1:
            raise DeviceFailed(
                f"microphone and speaker are of two sound systems, {' and '.join(sorted(apis))}",
                hint="Choose both of the same HOST API (moshi-client devices).",
            )
        refusals = []
        for rate in self._rates():
            try:
                return self._open_at(rate)
            except sd.PortAudioError as e:
                refusals.append(f"{rate:g} Hz: {e}")
        names = " and ".join(d.name for d in (self.input, self.output) if d is not None)
        raise DeviceFailed(f"{names} cannot be opened ({'; '.join(refusals)})")

    def _rates(self) -> list[float]:
        own = [d.default_rate for d in (self.input, self.output) if d is not None]
        return list(dict.fromkeys([*map(float, RATES), *own]))

    def _open_at(self, rate: float) -> Any:
        apis = {d.hostapi for d in (self.input, self.output) if d is not None}
        short = apis <= set(SHORT_BUFFER_APIS)
        options: dict[str, Any] = {
            "samplerate": rate,
            "dtype": "float32",
            "blocksize": 0 if short else round(rate / 100),
            "latency": "low" if short else "high",
        }
        if self.input is None:
            assert self.output is not None
            return sd.OutputStream(
                device=self.output.index,
                channels=self.output.channels,
                callback=self._play,
                **options,
            )
        if self.output is None:
            return sd.InputStream(
                device=self.input.index,
                channels=self.input.channels,
                callback=self._hear,
                **options,
            )
        return sd.Stream(
            device=(self.input.index, self.output.index),
            channels=(self.input.channels, self.output.channels),
            callback=self._hear_and_play,
            **options,
        )

    def _hear_and_play(
        self, indata: _Block, outdata: _Block, frames: int, _time: Any, _status: Any
    ) -> None:
        self._copy_in(indata, frames)
        self._copy_out(outdata, frames)
        self._mark()

    def _hear(self, indata: _Block, frames: int, _time: Any, _status: Any) -> None:
        self._copy_in(indata, frames)
        self._mark()

    def _play(self, outdata: _Block, frames: int, _time: Any, _status: Any) -> None:
        self._copy_out(outdata, frames)
        self._mark()

    def _copy_in(self, indata: _Block, frames: int) -> None:
        mono = self._mono[:frames]
        np.mean(indata, axis=1, out=mono)
        self.heard.write(mono)

    def _copy_out(self, outdata: _Block, frames: int) -> None:
        mono = self._mono[:frames]
        self.to_play.read_into(mono)
        outdata[:] = mono[:, None]

    def _mark(self) -> None:
        self.blocks += 1
        self.stamp_ns = time.monotonic_ns()
