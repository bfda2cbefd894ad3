"""A sound check without a model: chirps, then the user's own voice, later. Owns the measurements.

Three soft chirps go out while nothing else does; where and how loud the microphone hears them tells
echo and latency by the sound itself. After that the microphone is repeated with a stated delay,
unless the speaker comes back so loud that it would howl. Needs no device: frames and times go in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np

from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE, samples_ns, silence
from moshid.audio.ring import Samples

CHIRP_FRAMES: Final = (6, 14, 22)
"""The frames with which the chirps go out: 640 ms apart, so that each is alone."""

CHIRP_SAMPLES: Final = 2 * FRAME_SAMPLES
CHIRP_HZ: Final = (400.0, 6000.0)
CHIRP_PEAK: Final = 0.1
ECHO_SAMPLES_MAX: Final = round(0.4 * SAMPLE_RATE)
EARLY_SAMPLES: Final = round(0.1 * SAMPLE_RATE)
"""Devices that name a longer latency than they have let it come before its time."""

LOOP_FRAME: Final = 34
DELAY_FRAMES: Final = 8
"""640 ms: late enough that nobody takes it for an echo."""

CLEAR: Final = 0.1
"""Likeness from which on it is no accident, as a mean of the chirps: noise, and the voice of
somebody who talks meanwhile, stay below 0.07."""

JITTER_SAMPLES: Final = SAMPLE_RATE // 100
"""Times are off by up to a block of the device."""

HOWLS: Final = 10 ** (-3 / 20)
LATEST_NS: Final = 2**63
TINY: Final = 1e-9
LINE_SAMPLES: Final = 4 * SAMPLE_RATE


def chirp() -> Samples:
    """A sweep of 160 ms, float32 [3840]; its ends fade, so that no speaker clicks."""
    low, high = CHIRP_HZ
    seconds = np.arange(CHIRP_SAMPLES) / SAMPLE_RATE
    length_s = CHIRP_SAMPLES / SAMPLE_RATE
    phase = 2 * np.pi * (low * seconds + (high - low) / (2 * length_s) * seconds**2)
    return (CHIRP_PEAK * np.sin(phase) * np.hanning(CHIRP_SAMPLES)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Echo:
    """A chirp that came back."""

    delay_ms: float
    """From the time at which the speaker was to play it to its capture."""
    gain: float
    """1.0: as loud as it went out."""


@dataclass(frozen=True, slots=True)
class Match:
    """One chirp held against what was heard, at each lag; two float arrays [lags]."""

    likeness: Samples
    """Share of what is heard there that is the chirp: 0 to 1, as an amplitude."""
    gains: Samples
    """How loud it is, if it is there: 1.0 as it went out."""


class SoundCheck:
    """What goes out, and what is found in what comes in."""

    delay_ms: Final = DELAY_FRAMES * FRAME_NS // 1_000_000

    def __init__(self) -> None:
        self._chirp = chirp()
        self._late: deque[Samples] = deque([silence()] * DELAY_FRAMES, maxlen=DELAY_FRAMES)
        self._line = np.zeros(LINE_SAMPLES, dtype=np.float32)
        """What the microphone had in the first seconds."""
        self._line_end = 0
        self._line_begin_ns = LATEST_NS
        """When its first sample was captured: the earliest that any frame says, since a busy
        machine only makes them say it later."""
        self._out_ns: deque[int] = deque()
        """When chirps were heard that have not been looked for yet."""
        self._matches: list[Match] = []
        self.echo: Echo | None = None
        """What comes back of the chirps so far; None: nothing."""

    @property
    def heard(self) -> bool | None:
        """Whether the microphone hears the speaker; None: not measured yet."""
        return None if not self._matches else self.echo is not None

    def _find(self) -> Echo | None:
        """Where all chirps together come back, as the clearest of them has it."""
        likeness = np.mean([widened(m.likeness) for m in self._matches], axis=0)
        lag = int(np.argmax(likeness))
        if likeness[lag] < CLEAR:
            return None
        near = slice(max(0, lag - JITTER_SAMPLES), lag + JITTER_SAMPLES + 1)
        clearest = max(self._matches, key=lambda match: match.likeness[near].max())
        lag = near.start + int(np.argmax(clearest.likeness[near]))
        delay_ms = (lag - EARLY_SAMPLES) * 1000 / SAMPLE_RATE
        return Echo(delay_ms, float(clearest.gains[lag]))

    def repeats(self, frame: int) -> bool:
        """Whether the microphone is repeated with this frame."""
        return frame >= LOOP_FRAME and not (self.echo is not None and self.echo.gain > HOWLS)

    def answer(self, frame: int, pcm: Samples) -> Samples:
        """What is played in answer to a captured frame, float32 [1920]."""
        late = self._late[0]
        self._late.append(pcm)
        for start in CHIRP_FRAMES:
            part = frame - start
            if 0 <= part < CHIRP_SAMPLES // FRAME_SAMPLES:
                return self._chirp[part * FRAME_SAMPLES : (part + 1) * FRAME_SAMPLES]
        return late if self.repeats(frame) else silence()

    def played(self, frame: int, heard_ns: int) -> None:
        """The answer to ``frame`` will be heard from ``heard_ns`` on."""
        if frame in CHIRP_FRAMES:
            self._out_ns.append(heard_ns)

    def hear(self, pcm: Samples, position: int, capture_ns: int) -> None:
        """A captured frame, as the microphone has it: float32 [1920], whose end is
        ``capture_ns``."""
        end = position + len(pcm)
        if end <= LINE_SAMPLES:
            self._line[position:end] = pcm
            self._line_end = end
            begin_ns = capture_ns - samples_ns(end)
            self._line_begin_ns = min(begin_ns, self._line_begin_ns)
        while self._out_ns and self._look(self._out_ns[0]):
            self._out_ns.popleft()

    def _look(self, out_ns: int) -> bool:
        """Look for the chirp of ``out_ns``, once all is there; returns whether that is done."""
        out_at = round((out_ns - self._line_begin_ns) * SAMPLE_RATE / 1e9)
        begin, end = out_at - EARLY_SAMPLES, out_at + ECHO_SAMPLES_MAX + CHIRP_SAMPLES
        if end > LINE_SAMPLES or begin < 0:
            return True  # late by seconds: there is nothing to compare with
        if end > self._line_end:
            return False
        self._matches.append(match(self._line[begin:end], self._chirp))
        self.echo = self._find()
        return True


def match(heard: Samples, sent: Samples) -> Match:
    """Where in float32 [n] ``sent`` (float32 [m]) may be: a matched filter, n - m lags."""
    lags, size = len(heard) - len(sent), len(heard) + len(sent)
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sent, size))
    products = np.abs(np.fft.irfft(spectrum, size)[:lags])
    energy = np.concatenate(([0.0], np.cumsum(np.square(heard, dtype=np.float64))))
    there = energy[len(sent) : len(sent) + lags] - energy[:lags]
    sent_energy = float(np.dot(sent, sent))
    likeness = products / np.sqrt(sent_energy * there + TINY)
    return Match(likeness.astype(np.float32), (products / sent_energy).astype(np.float32))


def widened(values: Samples) -> Samples:
    """The largest of the neighbours within ``JITTER_SAMPLES``, at each place; float32 [n]."""
    out, width = np.pad(values, JITTER_SAMPLES), 1
    while width <= 2 * JITTER_SAMPLES:
        step = min(width, 2 * JITTER_SAMPLES + 1 - width)
        out = np.maximum(out[:-step], out[step:])
        width += step
    return out
