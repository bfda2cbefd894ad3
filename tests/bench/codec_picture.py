"""The picture of a swap's seam: waveform, spectrogram and difference, beside an unswapped codec.

Speech through the demo's codec, whose weights are trained; the swap is one that ``Spares`` does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from moshid.audio.codec import Tokens, open_codec
from moshid.audio.codec_spares import Life, Spares
from moshid.audio.frames import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE, level_dbfs, silence
from moshid.audio.request import CodecSpec, parse
from moshid.audio.ring import Samples
from tests.bench.codec_seams import spectra
from tests.fakes.audio_rig import DEMO_CODEC, make_speech

FRAMES: Final = 150
LEAD_FRAMES: Final = 4
"""So that the swap falls into a vowel."""

PRIMED: Final = (0, 16, 64)
"""Not at all; once what one layer attends to; twice what both do."""

NEAR_S: Final = 0.03
AROUND_S: Final = 0.6
BEFORE_FRAMES, AFTER_FRAMES = 8, 25


class InProcess:
    """The demo's codec, as one of those that end."""

    def __init__(self) -> None:
        self._codec = open_codec(parse(DEMO_CODEC, CodecSpec))
        self.encoded = self.decoded = 0

    def begin(self, pcm: Samples) -> None:
        """At once."""
        self._codec.begin(pcm)

    def encode(self, pcm: Samples) -> Tokens:
        """At once."""
        self.encoded += 1
        return self._codec.encode(pcm)

    def decode(self, tokens: Tokens) -> Samples:
        """At once."""
        self.decoded += 1
        return self._codec.decode(tokens)

    def take_sound(self, pcm: Samples) -> None:
        """At once."""
        self.encode(pcm)

    def take_tokens(self, tokens: Tokens) -> None:
        """At once."""
        self.decode(tokens)

    def hurry(self) -> None:
        """There is no hurry."""

    def is_level(self) -> bool:
        """Always."""
        return True

    def catch_up(self) -> None:
        """It has."""

    def close(self) -> None:
        """Nothing to end."""

    def has_ended(self) -> bool:
        """Nothing runs."""
        return True

    def wait(self) -> None:
        """Nothing runs."""


def draw(path: Path) -> None:
    """Compute and draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with tempfile.TemporaryDirectory() as folder:
        text = "She sells sea shells by the sea shore. How are you today, my friend? " * 3
        pcm = soundfile.read(make_speech(Path(folder) / "a.wav", text=text), dtype="float32")[0]
    pcm = np.concatenate((silence(LEAD_FRAMES * FRAME_SAMPLES), pcm))
    frames = list(pcm[: FRAMES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES))
    whole, _seam = _talk(frames, Life(10 * FRAMES, begin=10 * FRAMES))
    swapped = {primed: _talk(frames, _life(primed)) for primed in PRIMED}
    seam = swapped[PRIMED[-1]][1]
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 7), layout="constrained")
    _waves(axes[0, 0], swapped[PRIMED[-1]][0], whole, seam)
    _differences(axes[0, 1], swapped, whole)
    _spectrogram(axes[1, 0], whole, seam, "never swapped")
    _spectrogram(axes[1, 1], swapped[PRIMED[-1]][0], seam, f"swapped at 0, primed {PRIMED[-1]}")
    figure.suptitle("A swap of the codec in the middle of a word (the demo's codec, speech)")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _life(primed: int) -> Life:
    """One swap, before frame 100 or a little later."""
    return Life(2 * FRAMES, begin=100 - primed, primed=primed)


def _talk(frames: list[Samples], life: Life) -> tuple[Samples, int]:
    """All frames through a codec; the sound and the frame of the first swap."""
    spares, seam = Spares(InProcess, life), 0
    sound = []
    for frame, pcm in enumerate(frames):
        sound.append(spares.decode(spares.encode(pcm)))
        seam = seam or (frame if spares.swaps else 0)
    return np.concatenate(sound), seam


def _waves(axis: Any, swapped: Samples, whole: Samples, seam: int) -> None:
    middle, near = seam * FRAME_SAMPLES, round(NEAR_S * SAMPLE_RATE)
    t_ms = 1e3 * np.arange(-near, near) / SAMPLE_RATE
    axis.plot(t_ms, whole[middle - near : middle + near], color="#c1440e", lw=3, alpha=0.5)
    axis.plot(t_ms, swapped[middle - near : middle + near], color="#0b5d8a", lw=1)
    axis.axvline(0, color="0.4", ls=":")
    axis.legend(["never swapped", f"swapped at 0, primed {PRIMED[-1]} frames"], fontsize=8)
    axis.set(xlabel="ms from the seam", ylabel="amplitude", title="waveform")


def _differences(axis: Any, swapped: dict[int, tuple[Samples, int]], whole: Samples) -> None:
    for primed, colour in zip(PRIMED, ("#c1440e", "#e8945a", "#0b5d8a"), strict=True):
        sound, seam = swapped[primed]
        levels = []
        for frame in range(seam - BEFORE_FRAMES, seam + AFTER_FRAMES):
            part = slice(frame * FRAME_SAMPLES, (frame + 1) * FRAME_SAMPLES)
            error = np.mean(np.square(sound[part] - whole[part], dtype=np.float64))
            levels.append(10 * np.log10(error + 1e-16) - level_dbfs(whole))
        t_s = FRAME_S * np.arange(-BEFORE_FRAMES, AFTER_FRAMES)
        axis.step(t_s, levels, where="post", color=colour, label=f"primed {primed} frames")
    axis.axvline(0, color="0.4", ls=":")
    axis.legend(fontsize=8)
    axis.set(
        xlabel="s from the seam", ylabel="dB of the speech", title="difference, frame by frame"
    )


def _spectrogram(axis: Any, sound: Samples, seam: int, title: str) -> None:
    middle, around = seam * FRAME_SAMPLES, round(AROUND_S * SAMPLE_RATE)
    levels = 20 * np.log10(spectra(sound[middle - around : middle + around]) + 1e-12)
    extent = (-AROUND_S, AROUND_S, 0, SAMPLE_RATE / 2000)
    axis.imshow(
        levels.T, origin="lower", aspect="auto", extent=extent, vmin=-90, vmax=-20, cmap="magma"
    )
    axis.axvline(0, color="white", ls=":", lw=0.8)
    axis.set(xlabel="s from the seam", ylabel="kHz", title=title)
