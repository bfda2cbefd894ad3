"""Sound devices in virtual time: an hour in seconds. Clocks run as scripted, callbacks come late,
sound is dropped, devices fall silent and go away.

A ``SimulatedStream`` has what ``PortAudioStream`` has; whoever drives it calls ``run_until``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from moshid.audio.device_list import Device
from moshid.audio.ring import Ring, Samples
from moshid.errors import DeviceFailed

SECOND_NS: Final = 1_000_000_000
AGE_NS_MAX: Final = SECOND_NS


def device(name: str, *, rate: float = 24_000, index: int = 0) -> Device:
    """A device as the list would tell it."""
    return Device(index, name, "simulated", 1, rate, default=True)


def no_jitter() -> int:
    """Callbacks on time."""
    return 0


def late_by(most_ns: int, seed: int) -> Callable[[], int]:
    """Callbacks late by up to ``most_ns``, mostly by little, now and then by all of it."""
    rng = np.random.default_rng(seed)
    return lambda: int(min(most_ns, rng.exponential(most_ns / 6)))


@dataclass
class Script:
    """What a device does. Times are seconds of virtual time."""

    ppm: Callable[[float], float] = lambda _s: 0.0
    """How much faster than nominal its clock runs."""
    late_ns: Callable[[], int] = no_jitter
    block: int = 240
    dropped: list[tuple[float, int]] = field(default_factory=list)
    """When, and how many samples of its own it loses without a word."""
    hangs: list[tuple[float, float]] = field(default_factory=list)
    """From when to when its callback does not come, though it says nothing."""
    zeros: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it gives exact zeros."""
    gone_s: float = float("inf")
    """When it is pulled out."""


class SimulatedStream:
    """One device's stream, in one direction or both."""

    def __init__(
        self,
        script: Script,
        *,
        hears: Callable[[int, int], Samples] | None = None,
        plays: Callable[[Samples], None] | None = None,
        rate: float = 24_000.0,
        name: str = "device",
    ) -> None:
        """``hears`` gives the sound from a sample's index on; ``plays`` gets what is heard."""
        self.script = script
        self.rate = rate
        self.latency_s = 0.0
        self.input = device(name, rate=rate) if hears else None
        self.output = device(name, rate=rate) if plays else None
        self.heard = Ring(round(4 * rate))
        self.to_play = Ring(round(4 * rate))
        self.stamp_ns = 0
        self.blocks = 0
        self.closed = False
        self.block = 0  # as far as anybody is told
        self.is_new = False
        self._hears = hears
        self._plays = plays
        self._base: tuple[int, int] | None = None
        self._clock_ns = 0.0
        self._next_ns = 0.0
        self._index = 0
        self._dropped = list(script.dropped)

    @property
    def played(self) -> int:
        """As PortAudioStream."""
        return self.to_play.read_total + self.to_play.underrun

    def base(self) -> tuple[int, int]:
        """As PortAudioStream."""
        if self._base is None:
            self._base = (self.heard.written + self.heard.overrun, self.played)
            self.heard.read_total = self.heard.written
        return self._base

    def check(self, now_ns: int) -> None:
        """As PortAudioStream."""
        if self.closed:
            raise DeviceFailed("the sound device is closed")
        if now_ns >= self.script.gone_s * SECOND_NS:
            raise DeviceFailed("the sound device has gone")
        if now_ns - self.stamp_ns > AGE_NS_MAX:
            raise DeviceFailed("its callback has stopped coming")

    def close(self) -> None:
        """As PortAudioStream."""
        self.closed = True

    def run_until(self, now_ns: int) -> None:
        """All callbacks that are due by then. They may be late, never out of order."""
        while self._next_ns <= now_ns and self._next_ns < self.script.gone_s * SECOND_NS:
            self._call_back(int(self._next_ns))
            seconds = self._clock_ns / SECOND_NS
            ppm = self.script.ppm(seconds)
            self._clock_ns += self.script.block / self.rate * SECOND_NS / (1 + 1e-6 * ppm)
            for begin_s, end_s in self.script.hangs:
                if begin_s <= self._clock_ns / SECOND_NS < end_s:
                    self._clock_ns = end_s * SECOND_NS
            late_ns = self._clock_ns + self.script.late_ns()
            self._next_ns = max(self._next_ns + 1, late_ns)

    def _call_back(self, now_ns: int) -> None:
        seconds = now_ns / SECOND_NS
        while self._dropped and self._dropped[0][0] <= seconds:
            self._index += self._dropped.pop(0)[1]
        block = self.script.block
        if self._hears is not None:
            pcm = self._hears(self._index, block)
            if any(begin_s <= seconds < end_s for begin_s, end_s in self.script.zeros):
                pcm = np.zeros(block, dtype=np.float32)
            self.heard.write(pcm)
        if self._plays is not None:
            pcm = np.empty(block, dtype=np.float32)
            self.to_play.read_into(pcm)
            self._plays(pcm)
        self._index += block
        self.blocks += 1
        self.stamp_ns = now_ns
