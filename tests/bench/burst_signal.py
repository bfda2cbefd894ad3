"""Bursts to be found again after a codec: how long each was on its way, exact to the sample.

A codec's voice has another waveform than what it heard, so bursts are looked for as the codec alone
renders them. It renders by frames of 80 ms, and the loop's frames may begin at any block of the
sound card: the rendering that fits best says where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from moshid.audio.codec import open_codec
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, silence
from moshid.audio.request import CodecSpec
from moshid.audio.ring import Samples
from tests.fakes.audio_rig import DEMO_CODEC

EVERY_S: Final = 0.6
LENGTH: Final = SAMPLE_RATE // 8
STRETCH: Final = 500
"""Samples from one pitch to the next."""

BLOCK: Final = 240
WITHIN_S: Final = 0.5
"""A burst is looked for so long after it was spoken, if nothing else is asked for: another burst
comes later, and the demo codec makes them alike."""

SOONEST_S: Final = 0.2
"""No answer comes sooner: the model imposes more."""

TRUSTED: Final = 0.8
TRUSTED_LONG: Final = 0.95
"""Correlation from which a burst counts as found; so much where others are in reach."""

TRIAL: Final = 4 * SAMPLE_RATE


@dataclass(slots=True)
class Bursts:
    """What is spoken: float32 [n], and where each burst begins; renderings, once made."""

    pcm: Samples
    starts: list[int]
    trials: list[Samples] | None = None
    rendered: dict[int, Samples] = field(default_factory=dict)


def make(count: int, *, seed: int = 11, first_s: float = 1.0, every_s: float = EVERY_S) -> Bursts:
    """``count`` bursts of 125 ms with soft edges, at no fixed beat and no two alike, in colour or
    in loudness: a codec makes nearly the same of any white noise."""
    rng = np.random.default_rng(seed)
    pcm = np.zeros(round(SAMPLE_RATE * (first_s + count * every_s + 0.5)), dtype=np.float32)
    edge = np.minimum(1.0, np.minimum(np.arange(LENGTH), np.arange(LENGTH)[::-1]) / 120)
    starts = []
    for n in range(count):
        start = round(SAMPLE_RATE * (first_s + n * every_s)) + int(rng.integers(0, FRAME_SAMPLES))
        tone_hz = 200 * 2 ** rng.uniform(0, 4, size=LENGTH // STRETCH + 2)
        hz = np.interp(np.arange(LENGTH), np.arange(len(tone_hz)) * STRETCH, tone_hz)
        tone = np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE)
        pcm[start : start + LENGTH] = 0.3 * edge * (tone + 0.2 * rng.standard_normal(LENGTH))
        starts.append(start)
    return Bursts(pcm, starts)


def latencies_ms(
    bursts: Bursts, heard: Samples, *, within_s: float = WITHIN_S
) -> tuple[npt.NDArray[np.float64], int]:
    """Milliseconds from each burst's speaking to its hearing, and how many were not found.

    The codec's own 10 ms or so are not in it: they are in the rendering.
    """
    lags = lags_ms(bursts, heard, within_s=within_s)
    missing = np.isnan(lags)
    return lags[~missing], int(missing.sum())


def lags_ms(
    bursts: Bursts, heard: Samples, *, within_s: float = WITHIN_S
) -> npt.NDArray[np.float64]:
    """As ``latencies_ms``, NaN for each that was not found."""
    if bursts.trials is None:
        bursts.trials = renderings(bursts.pcm[:TRIAL])
    fits = [_total(bursts, trial, heard, within_s) for trial in bursts.trials]
    best = int(np.argmax(fits))
    if best not in bursts.rendered:
        bursts.rendered[best] = _render(bursts.pcm, BLOCK * best)
    rendered = bursts.rendered[best]
    found = [_find(start, rendered, heard, within_s) for start in bursts.starts]
    trusted = TRUSTED if within_s <= WITHIN_S else TRUSTED_LONG
    lags = [lag if score > trusted else np.nan for lag, score in found]
    return np.array(lags) / SAMPLE_RATE * 1e3


def renderings(pcm: Samples) -> list[Samples]:
    """What the codec makes of float32 [n], for each place where its frames may begin."""
    return [_render(pcm, offset) for offset in range(0, FRAME_SAMPLES, BLOCK)]


def best_lag(start: int, rendered: list[Samples], heard: Samples) -> float:
    """Samples by which the burst at ``start`` is late, by whichever rendering fits best; NaN when
    none does."""
    lag, score = max(
        (_find(start, r, heard, WITHIN_S) for r in rendered), key=lambda found: found[1]
    )
    return lag if score > TRUSTED else np.nan


def _render(pcm: Samples, offset: int) -> Samples:
    """What the codec makes of it in frames that begin at ``offset``, aligned with ``pcm``."""
    codec = open_codec(CodecSpec(**DEMO_CODEC))  # type: ignore[arg-type]
    for _ in range(12):
        codec.decode(codec.encode(silence()))
    lead = FRAME_SAMPLES - offset
    padded = np.pad(pcm, (lead, FRAME_SAMPLES))
    frames = padded[: len(padded) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    return np.concatenate([codec.decode(codec.encode(frame)) for frame in frames])[lead:]


def _total(bursts: Bursts, rendered: Samples, heard: Samples, within_s: float) -> float:
    starts = [s for s in bursts.starts if s + LENGTH < TRIAL - FRAME_SAMPLES]
    return sum(_find(start, rendered, heard, within_s)[1] for start in starts)


def _find(start: int, rendered: Samples, heard: Samples, within_s: float) -> tuple[int, float]:
    """The lag in samples at which the rendered burst is in ``heard``, and the correlation there."""
    piece = np.asarray(rendered[start : start + LENGTH + BLOCK], dtype=np.float64)
    soonest = round(SOONEST_S * SAMPLE_RATE)
    end = start + len(piece) + round(within_s * SAMPLE_RATE)
    field = np.asarray(heard[start + soonest : end])
    if len(field) < len(piece):
        return 0, 0.0
    size = 1 << (len(field) + len(piece)).bit_length()
    product = np.fft.rfft(field, size) * np.conj(np.fft.rfft(piece, size))
    correlation = np.fft.irfft(product, size)[: len(field) - len(piece) + 1]
    energy = np.concatenate(([0.0], np.cumsum(np.square(field, dtype=np.float64))))
    norms = np.sqrt((energy[len(piece) :] - energy[: -len(piece)]) * np.dot(piece, piece))
    scores = correlation / np.maximum(norms, 1e-6)
    best = int(np.argmax(scores))
    return soonest + best, float(scores[best])
