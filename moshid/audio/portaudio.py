"""Microphone and speaker through one PortAudio stream. Owns the stream, its callback and rings.

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
from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, samples_ns
from moshid.audio.playout import MARGIN_SAMPLES, Playout
from moshid.audio.resample import Resampler
from moshid.audio.ring import Ring, Samples
from moshid.errors import DeviceFailed

RING_S: Final = 4
CALLBACK_AGE_NS_MAX: Final = 1_000_000_000
"""A stream whose callback has not come for this long has failed without saying so."""

SILENT_FRAMES: Final = 13
"""Just over a second of exact zeros: no microphone is that quiet."""

POLL_S: Final = 0.001
BLOCK_FRAMES_MAX: Final = 96_000
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
        if now_ns - self.stamp_ns > CALLBACK_AGE_NS_MAX:
            self._gone = True
            raise DeviceFailed("the sound device has stopped working: no callback for a second")

    def close(self) -> None:
        """Stop the stream and let the device go.

        A stream that has failed is left to the end of the process: PortAudio's JACK part would wait
        for ever for the server that has gone.
        """
        if not self._closed and not self._gone:
            self._stream.close(ignore_errors=True)
        self._closed = True

    def _open(self) -> Any:
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
        options: dict[str, Any] = {
            "samplerate": rate, "dtype": "float32", "blocksize": 0, "latency": "low",
        }  # fmt: skip
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


class MicrophoneSource:
    """The hearing half of a stream: frames at 24 kHz mono."""

    lossless = False
    ended = False

    def __init__(self, stream: PortAudioStream) -> None:
        assert stream.input is not None
        self._stream = stream
        self._device = stream.input
        self._resample = Resampler(stream.rate, SAMPLE_RATE)
        self._frame = Ring(4 * FRAME_SAMPLES + BLOCK_FRAMES_MAX)
        self._zero_frames = 0
        self._lost_seen = 0
        self.overruns = 0

    @property
    def facts(self) -> dict[str, Any]:
        """The device, and how it was opened."""
        return self._device.to_dict() | {"rate": self._stream.rate}

    @property
    def silent(self) -> bool:
        """Whether exact zeros have come for over a second."""
        return self._zero_frames >= SILENT_FRAMES

    def start(self, now_ns: int) -> None:  # noqa: ARG002
        """Forget what was heard so far."""
        self._stream.base()

    def take(self, now_ns: int) -> Heard | None:
        """The next 80 ms, once they are there."""
        self._stream.check(now_ns)
        self._pull()
        pcm = self._frame.take(FRAME_SAMPLES)
        if pcm is None:
            return None
        self._zero_frames = 0 if pcm.any() else self._zero_frames + 1
        missing_ns = samples_ns(len(self._stream.heard), self._stream.rate)
        capture_ns = self._stream.stamp_ns - missing_ns - samples_ns(len(self._frame))
        lost = round(self._lost_seen * self._resample.ratio)
        return Heard(pcm, self._frame.read_total - FRAME_SAMPLES + lost, capture_ns)

    def wait_s(self, now_ns: int) -> float:
        """Until the samples still missing should be there, if the clock is right."""
        missing = FRAME_SAMPLES - len(self._frame)
        missing_s = missing / SAMPLE_RATE - len(self._stream.heard) / self._stream.rate
        if missing_s <= 0:
            return 0.0
        return max(POLL_S, missing_s - (now_ns - self._stream.stamp_ns) / 1e9)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _pull(self) -> None:
        ring = self._stream.heard
        if ring.overrun > self._lost_seen:
            self._lost_seen = ring.overrun
            self.overruns += 1
        samples = ring.take(len(ring))
        if samples is not None and len(samples):
            self._frame.write(self._resample.feed(samples))


class SpeakerSink:
    """The playing half of a stream."""

    def __init__(self, stream: PortAudioStream) -> None:
        assert stream.output is not None
        self._stream = stream
        self._device = stream.output
        self._resample = Resampler(SAMPLE_RATE, stream.rate)
        held_back = round(self._resample.delay_s * SAMPLE_RATE)
        self._playout = Playout(margin=MARGIN_SAMPLES + held_back)
        self._fed = 0

    @property
    def facts(self) -> dict[str, Any]:
        """The device, and how it was opened."""
        return self._device.to_dict() | {
            "rate": self._stream.rate,
            "latency_ms": round(1e3 * self._stream.latency_s, 1),
        }

    @property
    def underruns(self) -> int:
        """Gaps that had to be filled with silence."""
        return self._playout.gaps

    @property
    def late_frames(self) -> int:
        """Answers not played."""
        return self._playout.late_frames

    def start(self, now_ns: int) -> None:  # noqa: ARG002
        """Position 0 is now."""
        self._stream.base()

    def too_late(self, position: int, now_ns: int) -> bool:
        """Whether the frame's turn has passed."""
        self._stream.check(now_ns)
        return self._playout.too_late(position, self._played())

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:
        """Queue the frame for its turn; returns when that will be."""
        self._stream.check(now_ns)
        ring = self._stream.to_play
        refused = (ring.underrun - ring.overrun) / self._resample.ratio
        head = self._fed + round(refused) - self._base()
        played = self._played()
        placed = self._playout.place(pcm, position, head=head, played=played)
        self._fed += len(placed)
        ring.write(self._resample.feed(placed))
        turn = position + (self._playout.offset or 0)
        return now_ns + samples_ns(turn - played) + round(self._stream.latency_s * 1e9)

    def pending_s(self) -> float:
        """Samples in the ring."""
        return len(self._stream.to_play) / self._stream.rate

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _base(self) -> int:
        return round(self._stream.base()[1] / self._resample.ratio)

    def _played(self) -> int:
        return round((self._stream.played) / self._resample.ratio) - self._base()
