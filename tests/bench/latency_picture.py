"""The histogram of ``bench_latency``: ours and upstream's, mouth to ear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

IMPOSED_MS = 240.0


def draw(facts: dict[str, Any], path: Path) -> None:
    """``facts`` as ``bench_latency`` writes them, to ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(9, 4), layout="constrained")
    series = {"moshid": facts["ours"]["latency_ms"]}
    if "upstream" in facts:
        series["moshi_mlx.local"] = facts["upstream"]["latency_ms"]
    highest = max(max(values) for values in series.values())
    edges = [float(edge) for edge in np.arange(200, highest + 40, 20)]
    for name, values in series.items():
        p50, p95 = np.percentile(values, [50, 95])
        label = f"{name}: p50 {p50:.0f}, p95 {p95:.0f} ms, {len(values)} bursts"
        axis.hist(values, bins=edges, alpha=0.7, label=label)
    axis.axvline(IMPOSED_MS, ls="--", color="gray", label=f"imposed: {IMPOSED_MS:.0f} ms")
    axis.set(xlabel="mouth to ear, ms", ylabel="bursts", xlim=(200, edges[-1]))
    axis.legend(loc="upper right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
