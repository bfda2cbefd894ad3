"""Levels over time, with and without echo cancelling. Owns the picture ``docs/echo.png``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from moshid.audio.frames import SAMPLE_RATE
from tests.bench.echo_candidates import CANDIDATES
from tests.fakes import rooms
from tests.fakes.echo_runs import NOISE_DBFS, run
from tests.fakes.rooms import Samples

SECONDS: Final = 16.0
NEAR_S: Final = (5.0, 9.0)
MOVED_S: Final = 12.0
WINDOW: Final = SAMPLE_RATE // 5
SHOWN: Final = {"pywebrtc-audio": "#d08000", "ours": "#0060c0"}


def draw(path: Path) -> None:
    """Echo alone, double talk from 5 to 9 s, the microphone moved at 12 s."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    far, near, echo = _sounds()
    microphone = echo + near + rooms.hiss(len(echo), NOISE_DBFS)
    figure, (left, voice) = pyplot.subplots(2, 1, figsize=(9, 6.4), sharex=False)
    _line(left, microphone, "microphone", "#999999")
    _line(voice, near, "the near voice itself", "#20a020")
    for name, colour in SHOWN.items():
        chain = CANDIDATES[name]()
        out = np.roll(run(chain, microphone, far), -chain.delay)
        _line(left, out, f"after {name}", colour)
        _line(voice, out, f"after {name}", colour)
    left.set(title="Echo in a room (RT60 0.2 s), 40 ms late", ylabel="dBFS", ylim=(-95, -15))
    voice.set(title="Both speak", ylabel="dBFS", xlabel="s", ylim=(-50, -15))
    voice.set_xlim(NEAR_S[0] - 0.5, NEAR_S[1] + 0.5)
    for axis in (left, voice):
        axis.grid(alpha=0.3)
        axis.legend(loc="lower right", fontsize=8)
    left.axvspan(*NEAR_S, color="#20a020", alpha=0.08)
    left.axvline(MOVED_S, color="#c00000", linestyle=":")
    left.text(NEAR_S[0] + 0.1, -19, "both speak", fontsize=8)
    left.text(MOVED_S + 0.1, -19, "the microphone was moved", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _sounds() -> tuple[Samples, Samples, Samples]:
    far = rooms.far_voice(SECONDS)
    near = rooms.near_voice(SECONDS)
    near[: round(NEAR_S[0] * SAMPLE_RATE)] = 0
    near[round(NEAR_S[1] * SAMPLE_RATE) :] = 0
    echo = rooms.heard_of(far, rooms.shoebox(0.2, 40))
    moved = rooms.heard_of(far, rooms.shoebox(0.2, 45, source_m=(1.2, 2.0, 1.2)))
    at = round(MOVED_S * SAMPLE_RATE)
    return far, near, np.concatenate((echo[:at], moved[at:]))


def _line(axis: object, pcm: Samples, label: str, colour: str) -> None:
    power = np.convolve(np.square(pcm, dtype=np.float64), np.ones(WINDOW) / WINDOW, "same")
    every = slice(None, None, SAMPLE_RATE // 50)
    seconds = np.arange(len(pcm))[every] / SAMPLE_RATE
    level = 10 * np.log10(power[every] + 1e-12)
    axis.plot(seconds, level, label=label, color=colour, linewidth=1.2)  # type: ignore[attr-defined]
