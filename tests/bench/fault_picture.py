"""The picture of the fault bench: progress over time, and goodput, with all faults together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.fault_peers import OURS, Run

POINTS_MAX: Final = 200
SHADES: Final = {"offline": "0.75", "black hole": "0.6", "429": "#f3d9a4", "503": "#f2c4bb"}
BLUES: Final = ("#0b5d8a", "#2a8fc4", "#6bb5de", "#a3d1ee")
OTHERS: Final = ("#c1440e", "#e8945a", "#7a5195", "#3c8d2f", "#b8860b", "#d45087", "#555555")


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the runs of the first seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [r for r in runs if r.seed == runs[0].seed]
    colours = _colours(shown)
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=(5, 3)
    )
    _progress(left, shown, colours)
    _bars(right, shown, colours)
    size_mb, seed = shown[0].account["size"] / 1e6, shown[0].seed
    figure.suptitle(f"The link from hell: {size_mb:.0f} MB, all faults together, seed {seed}")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _colours(runs: Sequence[Run]) -> dict[str, str]:
    ours, theirs = iter(BLUES), iter(OTHERS)
    return {r.who: next(ours if r.who in OURS else theirs) for r in runs}


def _progress(axis: Any, runs: Sequence[Run], colours: dict[str, str]) -> None:
    end_s = max(r.wall_s for r in runs)
    for name, begins_s, ends_s in max((r.account["outages"] for r in runs), key=len):
        axis.axvspan(begins_s, min(ends_s, end_s), color=SHADES[name], lw=0)
        middle_s = (begins_s + min(ends_s, end_s)) / 2
        axis.text(middle_s, 103, name, rotation=90, fontsize=6, ha="center", va="bottom")
    for r in runs:
        ours = r.who in OURS
        step = max(1, len(r.progress) // POINTS_MAX)
        points = [*r.progress[::step], r.progress[-1]]
        done = [min(100.0, 100 * count / r.account["size"]) for _at_s, count in points]
        times_s = [at_s for at_s, _count in points]
        style = {"lw": 2.0 if ours else 1.3, "ls": "-" if ours else "--"}
        axis.plot(times_s, done, color=colours[r.who], **style)
        if r.finished:
            mark = "o" if r.digest == "right" else "X"
            axis.plot(times_s[-1], done[-1], mark, color=colours[r.who], ms=8, clip_on=False)
    axis.set(xlabel="s", ylabel="% of the file there", xlim=(0, end_s), ylim=(0, 102))
    axis.set_title("o: the right file    X: a wrong file    shaded: outages", fontsize=9, pad=34)


def _bars(axis: Any, runs: Sequence[Run], colours: dict[str, str]) -> None:
    names = [r.who for r in runs]
    right = [r.finished and r.digest == "right" for r in runs]
    shares = [100 * r.account["goodput_share"] * ok for r, ok in zip(runs, right, strict=True)]
    axis.barh(names, shares, color=[colours[n] for n in names])
    for i, (r, share) in enumerate(zip(runs, shares, strict=True)):
        axis.text(share + 1, i, _verdict(r, share), va="center", fontsize=8)
    axis.axvline(95, color="firebrick", ls=":", lw=1)
    axis.invert_yaxis()
    axis.set(xlim=(0, 125), xlabel="goodput, % of the allowed")
    axis.tick_params(axis="y", labelsize=8)
    for label, name in zip(axis.get_yticklabels(), names, strict=True):
        label.set_color(colours[name])


def _verdict(r: Run, share: float) -> str:
    if not r.finished:
        return f"not in {r.wall_s:.0f} s"
    return f"{share:.0f} %" if r.digest == "right" else "a wrong file"
