"""Microphone and speaker on PortAudio's streams. Owns positions and times, and resampling.

Two devices are two streams with two clocks (``clocks``); one device is one stream with one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from moshid.audio.clocks import MISSING_SAMPLES_MAX, SURPLUS_SAMPLES_MAX, TwoClocks
from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_SAMPLES, HALF_SAMPLES, SAMPLE_RATE, samples_ns
from moshid.audio.playout import (
    ANY_TIME,
    MARGIN_SAMPLES,
    TOLERANCE_SAMPLES,
    Beat,
    Playout,
)
from moshid.audio.reference import Tap
from moshid.audio.resample import Resampler
from moshid.audio.ring import Ring, Samples
from moshid.audio.silence import SilenceWatch, asleep_ns
from moshid.audio.stream import DeviceStream, check
from moshid.errors import DeviceFailed

POLL_S: Final = 0.001
LEARN_S: Final = 0.002
"""Between looks at a stream whose blocks are not known yet."""
BLOCK_NS_MAX: Final = 40_000_000
"""A device that takes longer from block to block is late, and not far ahead."""


class MicrophoneSource:
    """The hearing half of a stream: frames at 24 kHz mono."""

    lossless = False
    ended = False
    cut_short = False

    def __init__(
        self,
        stream: DeviceStream,
        silence: SilenceWatch,
        *,
        clocks: TwoClocks | None = None,
        asleep: Callable[[], int] = asleep_ns,
    ) -> None:
        """``clocks`` are observed with each frame."""
        assert stream.input is not None
        self._stream = stream
        self._device = stream.input
        self._clocks = clocks
        self._resample = Resampler(stream.rate, SAMPLE_RATE, live=True)
        self._frame = Ring(round((stream.heard.capacity / stream.rate + 1) * SAMPLE_RATE))
        self._silence = silence
        self._asleep = asleep
        self._lost_seen = 0
        self.overruns = 0

    @property
    def facts(self) -> dict[str, Any]:
        """The device, and how it was opened."""
        return self._device.to_dict() | {"rate": self._stream.rate}

    @property
    def silent(self) -> bool:
        """Whether exact zeros have come for over a second."""
        return self._silence.silent

    def start(self, now_ns: int) -> None:  # noqa: ARG002
        """Forget what was heard so far."""
        self._stream.base()

    def take(self, now_ns: int) -> Heard | None:
        """The next 80 ms, once they are there."""
        check(self._stream, now_ns, "input")
        if self._clocks is not None:
            self._clocks.observe(now_ns)
        self._pull()
        pcm = self._frame.take(FRAME_SAMPLES)
        if pcm is None:
            return None
        if self._silence.judge(bool(pcm.any()), self._asleep()) == "stuck":
            raise DeviceFailed(
                "the microphone gives nothing but zeros", direction="input", silent=True
            )
        return self._heard(pcm, self._frame.read_total - FRAME_SAMPLES, len(self._frame))

    def first_half(self, now_ns: int) -> Heard | None:  # noqa: ARG002
        """Of the next 80 ms, once it is there."""
        pcm = self._frame.peek(HALF_SAMPLES)
        if pcm is None:
            return None
        return self._heard(pcm, self._frame.read_total, len(self._frame) - HALF_SAMPLES)

    def _heard(self, pcm: Samples, first: int, after: int) -> Heard:
        """Samples ``first`` to ``after`` before the end of all that is in frames."""
        missing_ns = round(1e9 * self._behind_s()) + samples_ns(after)
        lost = round(self._lost_seen * self._resample.ratio)
        return Heard(pcm, first + lost, self._stream.stamp_ns - missing_ns)

    def wait_s(self, now_ns: int) -> float:
        """Until the samples still missing should be there, if the clock is right."""
        return self._until_s(FRAME_SAMPLES, now_ns)

    def half_wait_s(self, now_ns: int) -> float:
        """The same for the first half."""
        return self._until_s(HALF_SAMPLES, now_ns)

    def _until_s(self, samples: int, now_ns: int) -> float:
        missing_s = (samples - len(self._frame)) / SAMPLE_RATE
        missing_s += self._resample.inside / self._stream.rate
        missing_s -= len(self._stream.heard) / self._stream.rate
        if missing_s <= 0:
            return 0.0
        if self._stream.is_new:
            return LEARN_S
        return max(POLL_S, missing_s - (now_ns - self._stream.stamp_ns) / 1e9)

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _behind_s(self) -> float:
        """Sound that the device has given and that is not in frames yet."""
        return (len(self._stream.heard) + self._resample.inside) / self._stream.rate

    def _pull(self) -> None:
        ring = self._stream.heard
        if ring.overrun > self._lost_seen:
            self._lost_seen = ring.overrun
            self.overruns += 1
        samples = ring.take(len(ring))
        if samples is not None and len(samples):
            self._frame.write(self._resample.feed(samples))


class SpeakerSink:
    """The playing half of a stream, on the microphone's clock when that is another stream's."""

    def __init__(self, stream: DeviceStream, *, clocks: TwoClocks | None = None) -> None:
        assert stream.output is not None
        self._stream = stream
        self._device = stream.output
        self._clocks = clocks
        self._resample = Resampler(SAMPLE_RATE, stream.rate, live=True, steered=clocks is not None)
        held_back = round(self._resample.delay_s * SAMPLE_RATE)
        surplus = TOLERANCE_SAMPLES if clocks is None else SURPLUS_SAMPLES_MAX
        self._playout = Playout(margin=MARGIN_SAMPLES + held_back, surplus=surplus)
        self.tap: Tap | None = None
        """Told where each piece is really played."""

    @property
    def facts(self) -> dict[str, Any]:
        """The device, and how it was opened."""
        return self._device.to_dict() | {
            "rate": self._stream.rate,
            "latency_ms": round(1e3 * self._stream.latency_s, 1),
        }

    @property
    def drift_ppm(self) -> float | None:
        """How much faster than the microphone's its clock runs; None while that is not known."""
        return None if self._clocks is None else self._clocks.drift_ppm

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
        check(self._stream, now_ns, "output")
        return self._playout.too_late(position, round(self._played(now_ns)))

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:
        """Queue the frame for its turn; returns when that will be."""
        check(self._stream, now_ns, "output")
        played = round(self._played(now_ns))
        head = self._head(now_ns)
        if self._clocks is not None:
            head = self._steer(self._clocks, head, position)
        beat = self._beat(now_ns)
        placed = self._playout.place(pcm, position, head=round(head), played=played, beat=beat)
        self._stream.to_play.write(self._resample.feed(placed))
        if self.tap is not None:
            # Asked again: had the ring run empty, silence may have gone in between.
            self.tap(round(self._head(now_ns)) - len(placed), placed)
        turn = position + (self._playout.offset or 0)
        latency_s = self._stream.latency_s
        if self._clocks is not None:
            latency_s += self._clocks.hearing_latency_s
        return now_ns + samples_ns(turn - played) + round(latency_s * 1e9)

    def rest(self) -> None:
        """The gap before the next answer is a pause."""
        self._playout.rest()

    def pending_s(self) -> float:
        """Samples in the ring."""
        return len(self._stream.to_play) / self._stream.rate

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _steer(self, clocks: TwoClocks, head: float, position: int) -> float:
        """Where the queue's end is to be taken for: what is off by little is steered back over
        some seconds, and no gap or cut is made for it."""
        offset = self._playout.offset
        late = 0.0 if offset is None else head - (position + offset)
        if not -MISSING_SAMPLES_MAX <= late <= SURPLUS_SAMPLES_MAX:
            late = 0.0
        self._resample.steer(clocks.steer(late))
        return head - late

    def _head(self, now_ns: int) -> float:
        """Where on the session's line the next sample that is given would be heard."""
        ring = self._stream.to_play
        written = ring.written + ring.underrun - self._stream.base()[1]
        return self._on_session_line(written, now_ns) + self._resample.inside

    def _played(self, now_ns: int) -> float:
        """Where on the session's line the speaker is: on one clock, what it has taken.

        On two, its blocks come at all phases of ours in the course of minutes. So it is where it
        will be before its next block, whatever the phase: else a time of good phases would be taken
        for early answers, and the delay cut too short for the bad ones.
        """
        taken = self._stream.played - self._stream.base()[1]
        if self._clocks is None:
            return self._on_session_line(taken, now_ns)
        since_ns = min(BLOCK_NS_MAX, max(0, now_ns - self._stream.stamp_ns))
        return self._on_session_line(taken + self._stream.rate * since_ns / 1e9, now_ns)

    def _beat(self, now_ns: int) -> Beat:
        """When the speaker takes what comes next. On two clocks that is in ``_played`` already."""
        if self._clocks is not None or not self._stream.block:
            return ANY_TIME
        block = int(self._stream.block / self._resample.ratio)
        since = round((now_ns - self._stream.stamp_ns) * SAMPLE_RATE / 1e9)
        return Beat(block, min(block, max(0, since)))

    def _on_session_line(self, index: float, now_ns: int) -> float:
        if self._clocks is None:
            return index / self._resample.ratio
        return self._clocks.session_position(index, now_ns)
