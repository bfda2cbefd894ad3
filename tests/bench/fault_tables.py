"""The fault bench in words: who finished what, and where the capacity went. Owns their looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.bench.fault_peers import Run

MARKS: Final = ("<!-- faults -->", "<!-- end of faults -->")


def matrix(runs: Sequence[Run]) -> str:
    """One line for each of them, one column a fault: goodput in per cent, the median of the seeds,
    or what there was instead."""
    faults = list(dict.fromkeys(r.fault for r in runs))
    lines = ["| | " + " | ".join(faults) + " |", "|---|" + "--:|" * len(faults)]
    for who in dict.fromkeys(r.who for r in runs):
        cells = [_cell([r for r in runs if (r.who, r.fault) == (who, f)]) for f in faults]
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(runs: Sequence[Run]) -> str:
    if any(r.finished and r.digest != "right" for r in runs):
        return "**wrong**"
    if not all(r.finished for r in runs):
        return "never"
    shares = sorted(r.account["goodput_share"] for r in runs)
    return f"{100 * shares[len(shares) // 2]:.0f}" if shares else ""


def table(runs: Iterable[Run]) -> str:
    """One line a run."""
    lines = [
        "| fault | who | finished | wall s | digest | goodput % | sent twice % | requests |",
        "|---|---|---|--:|---|--:|--:|--:|",
    ]
    for r in runs:
        a = r.account
        there = 100 * r.progress[-1][1] / a["size"] if r.progress else 0.0
        end = "yes" if r.finished else f"no ({min(100.0, there):.0f} % in {r.wall_s:.0f} s)"
        goodput = f"{100 * a['goodput_share']:.1f}" if r.digest == "right" else ""
        lines.append(
            f"| {r.fault} | {r.who} | {end} | {r.wall_s:.1f} | {r.digest} | {goodput} "
            f"| {100 * a['twice_share']:.2f} | {a['counts'].get('requests', 0)} |"
        )
    return "\n".join(lines)


def loss(r: Run) -> str:
    """Where the capacity went, in one line."""
    a = r.account
    return (
        f"  {r.who}, {r.fault}, seed {r.seed}: wall {r.wall_s:.1f} s, link {a['seconds']:.1f} s,"
        f" outages {a['outage_s']:.1f} s, idle {a['idle_s']:.1f} s (with stalled connections open"
        f" {a['idle_stalled_s']:.1f} s), goodput {100 * a['goodput_share']:.1f} %,"
        f" twice {a['twice_bytes']:,}, junk {a['junk_bytes']:,}; {a['counts']}"
    )


def into_page(page: Path, tables: Iterable[str]) -> None:
    """Replace what stands between the page's two marks."""
    before, _, rest = page.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    page.write_text("\n\n".join([before + MARKS[0], *tables, MARKS[1] + after]))
