"""The picture of the load bench: memory over time while bf16 is quantised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.bench_load import PEAK_LIMIT, Curve, Row

COLOURS: Final = {"q8": "#0b5d8a", "q4": "#c1440e"}


def draw(curves: Mapping[str, Curve], rows: Sequence[Row], path: Path) -> None:
    """Resident memory above the imports', by quality, with the model's size and the limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4.4), layout="constrained")
    full = rows[0].file_bytes / 1e9
    axis.axhline(full, color="0.5", ls="--", lw=1)
    axis.text(
        0, full, f"bf16, {full:.1f} GB: never in memory", va="bottom", color="0.4", fontsize=8
    )
    for quality, curve in curves.items():
        row = next(r for r in rows if r.name == f"{quality}, quantised at load")
        model = row.results[0]["model_bytes"] / 1e9
        colour, end_s = COLOURS[quality], row.load_s[0]
        axis.plot(curve.seconds, [b / 1e9 for b in curve.rss_bytes], color=colour, label=quality)
        axis.axhline(PEAK_LIMIT * model, color=colour, ls=":", lw=1)
        axis.axvline(end_s, color=colour, lw=0.6)
        label = f"{quality}: {model:.2f} GB; dotted: {PEAK_LIMIT} of it"
        axis.text(0, PEAK_LIMIT * model, label, va="bottom", color=colour, fontsize=8)
    axis.set(xlabel="s", ylabel="GB resident, above the imports'", xlim=(0, None), ylim=(0, None))
    axis.set_title("Quantising while loading (a thin line: all is loaded)", fontsize=10)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
