"""The speaker's sound as the microphone hears it, learned by least squares. Owns that filter.

A suppressor takes the near voice away with the echo; subtracting an estimate of the echo does not.
Two filters, as in K. Ochiai et al., "Echo canceler with two echo path models", 1977: the one in
the background is the least-squares fit over the last two seconds in which the speaker spoke, the
one in the foreground is what is subtracted. The first is copied to the second when it predicts new
sound better; so a near voice, which spoils the fit, does no harm.

The fit takes one exact gradient step a frame. Its direction solves the normal equations with their
matrix taken as Toeplitz, by conjugate gradients with a circulant preconditioner (R. Chan and
M. Ng, "Conjugate gradient methods for Toeplitz systems", 1996): speech is so far from white that
the usual adaptive filters need ten times as long.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.fft import irfft, rfft

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.ring import Samples

BLOCK: Final = FRAME_SAMPLES // 2
PARTITIONS: Final = 4
TAPS: Final = PARTITIONS * BLOCK
"""160 ms: a room with an RT60 of 0.2 s has decayed by 48 dB."""

MEMORY_FRAMES: Final = 25
SLICE: Final = TAPS + FRAME_SAMPLES
"""Far samples that one frame's echo is made of; its spectrum has this length too."""

INNER_STEPS: Final = 6
PRE_EMPHASIS: Final = 0.9
"""Speech falls by 6 dB an octave: without it the fit would care for its low tones alone."""

EARLY: Final = SAMPLE_RATE // 25
"""Most of the echo arrives in 40 ms,"""

DECAY_S: Final = 0.3
"""and what comes later falls by 60 dB in so long, or faster."""

UNLIKELY: Final = 10_000.0
"""One over the power of an early tap; a ridge of the near sound's power times this keeps the fit
from following the near voice."""

REGULAR: Final = 1e-6
FORGET: Final = 0.6
BETTER: Final = 0.8
FAR_BETTER: Final = 0.4
FIRST: Final = 0.25
"""Half a filter would only confuse what comes after it: the first one has to remove 6 dB."""

_TINY: Final = 1e-12

_Floats = npt.NDArray[np.floating[Any]]
_Spectra = npt.NDArray[np.complex64]


class Emphasis:
    """``x[t] - 0.9 x[t - 1]``, frame after frame."""

    def __init__(self) -> None:
        self._last = np.float32(0)

    def feed(self, pcm: Samples) -> Samples:
        """float32 [n] → float32 [n]."""
        out: Samples = pcm.copy()
        out[1:] -= np.float32(PRE_EMPHASIS) * pcm[:-1]
        out[0] -= np.float32(PRE_EMPHASIS) * self._last
        self._last = pcm[-1]
        return out


class EchoFilter:
    """``taps`` float32 [3840]: microphone = far sound * taps + what is near."""

    def __init__(self, *, aligned: bool = False) -> None:
        """``aligned``: the first arrival is within the first 40 ms."""
        self.taps: Samples = np.zeros(TAPS, dtype=np.float32)
        self._spectrum = rfft(self.taps, SLICE)
        self._unlikely = _unlikely(aligned)
        self._fit = _Fit(self._unlikely)
        self._working = False
        self._energy_fit = self._energy_used = self._energy_near = 0.0

    def echo(self, far: Samples) -> Samples:
        """The echo in a frame or a part of one, float32 [n], of the ``TAPS + n`` far samples that
        end with it."""
        return _last_frame(rfft(far, SLICE) * self._spectrum)[: len(far) - TAPS]

    def learn(self, near: Samples, far: Samples, steps: int = 1) -> bool:
        """Fit a frame, both sides with pre-emphasis: float32 [1920], float32 [5760].

        Returns whether the path is still the same one: False, and all is forgotten, when
        subtracting makes the sound louder.
        """
        spectrum = rfft(far, SLICE)
        error_fit = near - _last_frame(spectrum * rfft(self._fit.taps, SLICE))
        error_used = near - _last_frame(spectrum * self._spectrum)
        same = self._judge(_energy(error_fit), _energy(error_used), _energy(near))
        self._fit.add(error_fit if same else near, far)
        for _ in range(steps):
            self._fit.step()
        return same

    def adopt(self) -> None:
        """Use the fit from here on."""
        self.taps = self._fit.taps.copy()
        self._spectrum = rfft(self.taps, SLICE)
        self._working = True
        self._energy_used = self._energy_fit

    def _judge(self, fit: float, used: float, near: float) -> bool:
        """Choose the filter in use by the energies of a frame's errors; False: the fit is new."""
        self._energy_fit = FORGET * self._energy_fit + fit
        self._energy_used = FORGET * self._energy_used + used
        self._energy_near = FORGET * self._energy_near + near
        better = self._energy_fit < BETTER * self._energy_used or fit < FAR_BETTER * used
        if better and (self._working or self._energy_fit < FIRST * self._energy_near):
            self.adopt()
        elif self._energy_near < BETTER * self._energy_used:
            self._fit = _Fit(self._unlikely)
            self.adopt()
            self._working = False
            self._energy_fit = self._energy_used = self._energy_near
            return False
        return True


class _Fit:
    """Least squares over the frames in memory; ``error`` is kept up to date with ``taps``."""

    def __init__(self, unlikely: Samples) -> None:
        blocks = MEMORY_FRAMES * (FRAME_SAMPLES // BLOCK)
        self.taps: Samples = np.zeros(TAPS, dtype=np.float32)
        self._far: _Spectra = np.zeros((blocks, PARTITIONS, BLOCK + 1), dtype=np.complex64)
        self._error: Samples = np.zeros((blocks, BLOCK), dtype=np.float32)
        self._power: Samples = np.zeros((MEMORY_FRAMES, TAPS + 1), dtype=np.float32)
        self._window = np.hanning(TAPS + 1)[:TAPS].astype(np.float32)
        self._frames = 0
        self._unlikely = unlikely

    def add(self, error: Samples, far: Samples) -> None:
        """Remember a frame in place of the oldest one."""
        slot = self._frames % MEMORY_FRAMES
        self._frames += 1
        for block in range(FRAME_SAMPLES // BLOCK):
            row = slot * (FRAME_SAMPLES // BLOCK) + block
            self._error[row] = error[block * BLOCK : (block + 1) * BLOCK]
            end = TAPS + (block + 1) * BLOCK
            for part in range(PARTITIONS):
                stop = end - part * BLOCK
                self._far[row, part] = rfft(far[stop - 2 * BLOCK : stop])
        energy = FRAME_SAMPLES / float(np.sum(self._window**2))
        self._power[slot] = energy * np.abs(rfft(far[-TAPS:] * self._window, 2 * TAPS)) ** 2

    def step(self) -> None:
        """One step along the Toeplitz direction, its length by exact line search."""
        rows = min(self._frames, MEMORY_FRAMES) * (FRAME_SAMPLES // BLOCK)
        far, error = self._far[:rows], self._error[:rows]
        power = self._power[: rows * BLOCK // FRAME_SAMPLES].sum(axis=0)
        power += np.float32(REGULAR * float(power.mean()) + _TINY)
        ridge = np.float32(np.mean(np.square(error))) * self._unlikely
        direction = _solve(self._gradient(far, error) - ridge * self.taps, power, ridge)
        moved = self._apply(far, direction)
        rise = float(np.vdot(moved, error)) - float(np.dot(ridge * direction, self.taps))
        bend = float(np.vdot(moved, moved)) + float(np.dot(ridge * direction, direction))
        length = np.float32(rise / (bend + _TINY))
        self.taps = self.taps + length * direction
        error -= length * moved

    @staticmethod
    def _gradient(far: _Spectra, error: Samples) -> Samples:
        padded = np.zeros((len(error), 2 * BLOCK), dtype=np.float32)
        padded[:, BLOCK:] = error
        spectra = np.einsum("nbf,nf->bf", far, rfft(padded).conj())
        return irfft(spectra.conj())[:, :BLOCK].reshape(-1).astype(np.float32)

    @staticmethod
    def _apply(far: _Spectra, taps: Samples) -> Samples:
        parts = rfft(taps.reshape(PARTITIONS, BLOCK), 2 * BLOCK)
        moved = irfft(np.einsum("nbf,bf->nf", far, parts.astype(np.complex64)))
        return moved[:, BLOCK:].astype(np.float32)


def _solve(right: Samples, power: Samples, ridge: Samples) -> Samples:
    """x of (T + diag(ridge)) x = right, nearly; T: the Toeplitz matrix of spectrum ``power``."""
    inverse = 1 / (power + np.float32(1e-4) * power.mean() + np.float32(ridge.min()))
    solved = np.zeros(TAPS, dtype=np.float32)
    rest = right.copy()
    step = toward = irfft(rfft(rest, 2 * TAPS) * inverse)[:TAPS]
    product = float(np.dot(rest, toward))
    for _ in range(INNER_STEPS):
        image = irfft(rfft(step, 2 * TAPS) * power)[:TAPS] + ridge * step
        length = np.float32(product / (float(np.dot(step, image)) + 1e-30))
        solved += length * step
        rest -= length * image
        toward = irfft(rfft(rest, 2 * TAPS) * inverse)[:TAPS]
        before, product = product, float(np.dot(rest, toward))
        step = toward + np.float32(product / (before + 1e-30)) * step
    return solved


def _unlikely(aligned: bool) -> Samples:
    """One over the power that each tap may be expected to have: a room decays."""
    decay = np.zeros(TAPS)
    if aligned:
        decay[EARLY:] = np.arange(TAPS - EARLY) * (6.0 / (DECAY_S * SAMPLE_RATE))
    return (UNLIKELY * 10**decay).astype(np.float32)


def _last_frame(spectrum: npt.NDArray[np.complexfloating[Any, Any]]) -> Samples:
    return irfft(spectrum, SLICE)[TAPS:].astype(np.float32)


def _energy(pcm: Samples) -> float:
    return float(np.dot(pcm, pcm))
