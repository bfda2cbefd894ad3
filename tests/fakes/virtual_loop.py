"""The sound path of a talk in virtual time: microphone, a model that repeats, speaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from moshid.audio.clocks import TwoClocks
from moshid.audio.devices import Heard
from moshid.audio.live import MicrophoneSource, SpeakerSink
from moshid.audio.resample import Resampler
from moshid.audio.ring import Samples
from moshid.audio.silence import SilenceWatch
from tests.fakes.simulated_devices import SECOND_NS, SimulatedStream

STEP_NS: Final = 60_000_000
STEP_JITTER_NS: Final = 2_000_000
POLL_NS: Final = 1_000_000


class CountingResampler(Resampler):
    """Gives as many samples as the real one would, all zero: for an hour in seconds."""

    def __init__(self, like: Resampler) -> None:
        self.ratio = like.ratio
        self.passes_through = False
        self._hold = like.delay_s * 24_000
        self._rest = 0.0
        self._change = 0.0
        self._zeros: Samples = np.zeros(20_000, dtype=np.float32)

    @property
    def inside(self) -> float:
        """Input samples not spoken of yet."""
        return self._hold + self._rest

    def steer(self, change: float) -> None:
        """As Resampler."""
        self._change = change

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:  # noqa: ARG002
        """As Resampler."""
        ratio = self.ratio * (1 + self._change)
        count = int((self._rest + len(samples)) * ratio)
        self._rest += len(samples) - count / ratio
        return self._zeros[:count]


@dataclass(frozen=True, slots=True)
class Played:
    """One answer, when it was queued."""

    now_ns: int
    position: int
    index: float
    """Of its first sample, as the speaker counts from its start."""
    queued_s: float


class VirtualLoop:
    """Hears from one stream, plays on the other, or the same, ``STEP_NS`` after each frame."""

    def __init__(
        self, hearing: SimulatedStream, playing: SimulatedStream, *, counting: bool = False
    ) -> None:
        self.hearing = hearing
        self.playing = playing
        self.clocks = None if hearing is playing else TwoClocks(hearing, playing)
        silence = SilenceWatch(may_be_stuck=False)
        self.source = MicrophoneSource(hearing, silence, clocks=self.clocks, asleep=lambda: 0)
        self.sink = SpeakerSink(playing, clocks=self.clocks)
        if counting:
            self.sink._resample = CountingResampler(self.sink._resample)
        self.answers: list[Played] = []
        self._pending: list[tuple[int, Heard]] = []
        self._rng = np.random.default_rng(5)
        self.now_ns = SECOND_NS // 2
        self._let_devices_run()
        self.source.start(self.now_ns)
        self.sink.start(self.now_ns)

    def run(self, seconds: float) -> None:
        """Go on until ``seconds`` of virtual time."""
        while self.now_ns < seconds * SECOND_NS:
            wait_ns = max(POLL_NS, int(self.source.wait_s(self.now_ns) * 1e9))
            self._until(self.now_ns + wait_ns)
            heard = self.source.take(self.now_ns)
            if heard is not None:
                jitter_ns = int(self._rng.uniform(0, STEP_JITTER_NS))
                self._pending.append((self.now_ns + STEP_NS + jitter_ns, heard))

    def _until(self, then_ns: int) -> None:
        while self._pending and self._pending[0][0] <= then_ns:
            self.now_ns, heard = self._pending.pop(0)
            self._let_devices_run()
            if not self.sink.too_late(heard.position, self.now_ns):
                self._play(heard)
        self.now_ns = then_ns
        self._let_devices_run()

    def _play(self, heard: Heard) -> None:
        ring = self.playing.to_play
        self.sink.play(heard.pcm, heard.position, self.now_ns)
        rate = self.playing.rate
        # The last sample written speaks for what is ``inside`` short of the frame's end.
        inside = self.sink._resample.inside * rate / 24_000
        end = ring.written + ring.underrun + inside
        index = end - len(heard.pcm) * rate / 24_000
        self.answers.append(Played(self.now_ns, heard.position, index, len(ring) / rate))

    def _let_devices_run(self) -> None:
        self.hearing.run_until(self.now_ns)
        self.playing.run_until(self.now_ns)
