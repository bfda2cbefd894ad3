"""Rooms and voices made by arithmetic: what a microphone hears of a speaker, and how it is judged.

A room is an impulse response at 24 kHz: one path, or a shoebox by the image-source method (J. Allen
and D. Berkley, 1979). Voices are espeak-ng's. Everything is the same at each run.
"""

from __future__ import annotations

import functools
import io
import subprocess

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE

Samples = npt.NDArray[np.float32]
Response = npt.NDArray[np.float64]

SPEECH_DBFS = -23.0
FAR_TEXT = (
    "The weather in the mountains changes quickly, so take a warm coat with you, and plenty of "
    "water for the long way up. Last summer we walked for nine hours and met nobody but two old "
    "shepherds and their dogs. In the evening the clouds came down, and we could hardly see the "
    "path in front of our feet. On the third day we ran out of bread, and turned back."
)
NEAR_TEXT = (
    "Could you please tell me again what time the train to London leaves tomorrow morning, and "
    "whether I have to change on the way? I would rather not carry all of my books and boxes from "
    "one platform to the other. My brother said that there is a faster one at half past seven."
)
_SOUND_M_S = 343.0
_SINC = 8


@functools.cache
def _spoken(text: str, voice: str) -> Samples:
    command = ["espeak-ng", "-v", voice, "-s", "165", "--stdout", text]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    pcm, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    return np.asarray(soxr.resample(pcm, rate, SAMPLE_RATE), dtype=np.float32)


def speech(text: str, voice: str, seconds: float, dbfs: float = SPEECH_DBFS) -> Samples:
    """float32 [24,000 * seconds] of ``text``, said again if it is short; its level while it speaks
    is ``dbfs``."""
    said = _spoken(text, voice)
    loud = said[np.abs(said) > 1e-3 * np.abs(said).max()]
    said = said * np.float32(10 ** (dbfs / 20) / np.sqrt(np.mean(np.square(loud))))
    samples = round(seconds * SAMPLE_RATE)
    return np.tile(said, -(-samples // len(said)))[:samples]


def far_voice(seconds: float) -> Samples:
    """The model's."""
    return speech(FAR_TEXT, "en-us", seconds)


def near_voice(seconds: float) -> Samples:
    """The user's."""
    return speech(NEAR_TEXT, "en-gb+f2", seconds)


def hiss(samples: int, dbfs: float, seed: int = 5) -> Samples:
    """A microphone's noise."""
    noise = np.random.default_rng(seed).standard_normal(samples)
    return (10 ** (dbfs / 20) * noise).astype(np.float32)


def single_path(delay_ms: float, gain_db: float = -6.0) -> Response:
    """One arrival."""
    response = np.zeros(round(delay_ms * SAMPLE_RATE / 1000) + 1)
    response[-1] = 10 ** (gain_db / 20)
    return response


@functools.cache
def shoebox(
    rt60_s: float,
    delay_ms: float,
    gain_db: float = -6.0,
    *,
    source_m: tuple[float, float, float] = (2.0, 1.5, 1.0),
    microphone_m: tuple[float, float, float] = (2.5, 1.6, 1.0),
) -> Response:
    """A room of 5 x 4 x 2.6 m whose sound falls by 60 dB in ``rt60_s``, ``delay_ms`` late by its
    devices; its loudest arrival has ``gain_db``."""
    aim_s = rt60_s
    for _ in range(4):  # Eyring's formula is off by half for a box
        response = _images(aim_s, round(1.2 * rt60_s * SAMPLE_RATE), source_m, microphone_m)
        aim_s *= rt60_s / decay_s(response)
    response = response * (10 ** (gain_db / 20) / np.abs(response).max())
    return np.concatenate((np.zeros(round(delay_ms * SAMPLE_RATE / 1000)), response))


def decay_s(response: Response) -> float:
    """RT60 by the decay from -5 to -35 dB (M. Schroeder's integral, 1965)."""
    left = np.cumsum(np.square(response)[::-1])[::-1]
    early, late = (int(np.argmax(left < left[0] * 10 ** (db / 10))) for db in (-5, -35))
    return 2 * (late - early) / SAMPLE_RATE


def _images(
    rt60_s: float, taps: int, source_m: tuple[float, ...], microphone_m: tuple[float, ...]
) -> Response:
    size = np.array((5.0, 4.0, 2.6))
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    wall = np.exp(-0.161 * float(np.prod(size)) / (surface * rt60_s) / 2)
    response = np.zeros(taps + 500)
    reach = np.ceil(taps / SAMPLE_RATE * _SOUND_M_S / (2 * size)).astype(int) + 1
    for mirrored in np.ndindex(2, 2, 2):
        along, hits = [], []
        for axis in range(3):
            k = np.arange(-reach[axis], reach[axis] + 1)
            image = (1 - 2 * mirrored[axis]) * source_m[axis] + 2 * k * size[axis]
            along.append(image - microphone_m[axis])
            hits.append(np.abs(k - mirrored[axis]) + np.abs(k))
        grid = np.meshgrid(*along, indexing="ij")
        distance_m = np.sqrt(sum(np.square(g) for g in grid)).reshape(-1)
        reflections = np.sum(np.meshgrid(*hits, indexing="ij"), axis=0).reshape(-1)
        _add_arrivals(response, distance_m, wall**reflections / distance_m)
    return response


def _add_arrivals(response: Response, distance_m: Response, gain: Response) -> None:
    at = distance_m / _SOUND_M_S * SAMPLE_RATE
    inside = at < len(response) - 2 * _SINC
    at, gain = at[inside], gain[inside]
    whole = np.floor(at).astype(int)
    for tap in range(-_SINC, _SINC + 1):
        off = tap - (at - whole)
        kernel = np.sinc(off) * np.cos(np.pi * off / (2 * _SINC + 2)) ** 2
        np.add.at(response, np.maximum(whole + tap, 0), gain * kernel)


def heard_of(pcm: Samples, response: Response) -> Samples:
    """``pcm`` through the room: float32, as long as ``pcm``."""
    size = 1 << (len(pcm) + len(response)).bit_length()
    sound = np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(response, size), size)
    return sound[: len(pcm)].astype(np.float32)


def drifting(pcm: Samples, ppm: float) -> Samples:
    """``pcm`` by a clock that is slower by ``ppm`` parts in a million."""
    if not ppm:
        return pcm
    at = np.arange(len(pcm)) * (1 + 1e-6 * ppm)
    whole = np.floor(at).astype(int)
    padded = np.pad(pcm, (2 * _SINC, 4 * _SINC))
    out = np.zeros(len(pcm))
    for tap in range(-2 * _SINC + 1, 2 * _SINC + 1):
        off = tap - (at - whole)
        kernel = np.sinc(off) * np.cos(np.pi * off / (4 * _SINC + 2)) ** 2
        out += kernel * padded[np.minimum(whole + tap + 2 * _SINC, len(padded) - 1)]
    return out.astype(np.float32)


def level_db(pcm: Samples) -> float:
    """Mean square in decibels of full scale."""
    return 10 * float(np.log10(np.mean(np.square(pcm, dtype=np.float64)) + 1e-20))


def removed_db(echo: Samples, rest: Samples, begin_s: float, end_s: float) -> float:
    """Echo return loss enhancement between two times."""
    part = slice(round(begin_s * SAMPLE_RATE), round(end_s * SAMPLE_RATE))
    return level_db(echo[part]) - level_db(rest[part])


def voice_loss_db(out: Samples, voice: Samples, begin_s: float, delay: int) -> float:
    """By how much the voice is quieter in ``out``: its share found by linear projection.

    ``out`` is ``delay`` samples later. What else is in ``out`` counts neither for nor against.
    """
    out, voice = out[round(begin_s * SAMPLE_RATE) + delay :], voice[round(begin_s * SAMPLE_RATE) :]
    voice = voice[: len(out)]
    share = float(np.dot(out, voice)) / float(np.dot(voice, voice))
    return -20 * float(np.log10(max(share, 1e-6)))


def frames_of(pcm: Samples) -> list[Samples]:
    """Cut into float32 [1920]."""
    return list(pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES))
