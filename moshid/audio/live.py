"""Microphone and speaker as the two halves of one stream. Owns resampling, positions and times."""

from __future__ import annotations

from typing import Any, Final

from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, samples_ns
from moshid.audio.playout import MARGIN_SAMPLES, Playout
from moshid.audio.portaudio import RING_S, PortAudioStream
from moshid.audio.resample import Resampler
from moshid.audio.ring import Ring, Samples

SILENT_FRAMES: Final = 13
"""Just over a second of exact zeros: no microphone is that quiet."""

POLL_S: Final = 0.001


class MicrophoneSource:
    """The hearing half of a stream: frames at 24 kHz mono."""

    lossless = False
    ended = False
    cut_short = False

    def __init__(self, stream: PortAudioStream) -> None:
        assert stream.input is not None
        self._stream = stream
        self._device = stream.input
        self._resample = Resampler(stream.rate, SAMPLE_RATE, live=True)
        self._frame = Ring((RING_S + 1) * SAMPLE_RATE)
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
        self._resample = Resampler(SAMPLE_RATE, stream.rate, live=True)
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
