"""The demo's report: a page of text, a JSON file, and a picture. Owns their looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

BUDGET_MS: Final = 80.0
CORRELATION_MIN: Final = 0.7
"""Envelope correlation of the demo codec's voice with its input is 0.8 to 0.9."""


def write(facts: dict[str, Any], out: Path) -> None:
    """Print the report and write ``report.json``, ``report.txt`` and ``report.png`` to ``out``."""
    text = as_text(facts)
    listed = json.dumps(facts, indent=1, ensure_ascii=False)
    (out / "report.json").write_text(listed + "\n", encoding="utf-8")
    (out / "report.txt").write_text(text + "\n", encoding="utf-8")
    names = ["sound", "files"] if "talk_sound" in facts else ["files"]
    shown = next(n for n in names if (out / f"{n}-output.wav").exists())
    draw(facts[f"talk_{shown}"], out / f"{shown}-input.wav", out / f"{shown}-output.wav", out)
    print(f"\n{text}\n\nwritten to {out}: report.txt, report.json, report.png and the WAV files")


def as_text(facts: dict[str, Any]) -> str:
    """The report as lines of text."""
    job, model = facts["job"], facts["model"]
    lines = [
        "moshid demo: it works",
        "",
        f"  download      {_mb(job['bytes_total'])} in {facts['download_s']:.1f} s, through two "
        "cuts of the line and one kill -9",
        f"  fetched       {_mb(job['bytes_fetched'])}, of that fetched again "
        f"{_mb(job['bytes_refetched'])}; retries {job['retries']}",
        f"  verified      SHA-256 of all {facts['files_verified']} files",
        f"  model         {model['model']} {model['quality']}, loaded in {model['load_s']:.1f} s, "
        f"warmed up in {model['warmup_s']:.1f} s, {_mb(model['memory_bytes'])} of memory",
    ]
    for name, title in (("talk_files", "talk, files"), ("talk_sound", "talk, sound")):
        if name in facts:
            lines += ["", *_talk_lines(title, facts[name])]
    return "\n".join([*lines, "", f"  whole demo    {facts['total_s']:.0f} s"])


def _talk_lines(title: str, talk: dict[str, Any]) -> list[str]:
    stage = talk.get("stage_ms") or {}
    lines = [
        f"  {title:<13} {talk['frames']} frames, {talk['lagged_frames']} lagged, "
        f"{talk['underruns']} underruns, {talk['overruns']} overruns"
    ]
    steps = step_times_ms(talk)
    if len(steps):
        p50, p95, p99 = np.percentile(steps, [50, 95, 99])
        lines.append(
            f"    step        p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms "
            f"(the budget is {BUDGET_MS:.0f} ms)"
        )
    for part in ("encode", "decode"):
        if stage.get(part):
            lines.append(f"    {part:<11} p50 {stage[part]['p50']:.1f} ms")
    if "lag_ms" in talk:
        lines.append(
            f"    mouth to ear {talk['lag_ms']} ms as recorded (240 ms are the model's own), "
            f"envelope correlation {talk['correlation']:.2f}"
        )
    if talk.get("transcript"):
        lines.append(f"    transcript  {talk['transcript']}")
    return lines


def step_times_ms(talk: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The step time of each frame that told one, in order, float64 [frames]."""
    told = [level.get("step_ms") for level in talk.get("levels", [])]
    return np.array([t for t in told if t is not None], dtype=np.float64)


def draw(talk: dict[str, Any], said: Path, heard: Path, out: Path) -> None:
    """Spectrograms of input and output above each other, step times below: ``report.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, figsize=(11, 9), layout="constrained")
    for axis, path, title in ((axes[0], said, "said"), (axes[1], heard, "heard")):
        pcm, rate = soundfile.read(path, dtype="float32")
        dither = np.random.default_rng(0).normal(0.0, 1e-7, len(pcm))  # digital silence has no log
        axis.specgram(
            pcm + dither, NFFT=512, noverlap=384, Fs=rate, vmin=-140, vmax=-40, cmap="magma"
        )
        axis.set(title=f"{title} ({path.name})", ylabel="Hz", ylim=(0, 8000), xlabel="s")
        axis.set_xlim(0, len(pcm) / rate)
    if "lag_ms" in talk:
        axes[1].set_title(f"heard ({heard.name}): {talk['lag_ms']} ms after it was said")
    steps = step_times_ms(talk)
    axes[2].plot(np.arange(len(steps)) * BUDGET_MS / 1000, steps, ".-", lw=0.8, ms=4)
    axes[2].axhline(BUDGET_MS, color="firebrick", ls="--", label=f"budget {BUDGET_MS:.0f} ms")
    axes[2].set(title="model step, there and back", ylabel="ms", xlabel="s", ylim=(0, None))
    axes[2].legend(loc="upper right")
    figure.savefig(out / "report.png", dpi=110)
    pyplot.close(figure)


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
