"""Our generation step beside ``moshi_mlx.models.LmGen``, in turns, with the floor of bandwidth.

``python -m tests.bench.bench_step [--shape S]... [--quality Q]... [--steps N] [--json FILE]``
prints a line for each shape and quality; weights are random. Nodes are those of one frame's graph,
waits how often the host waits for the device in it. The shape ``moshi-7b`` is for a GPU.

``--long FRAMES`` steps a small model for that long instead: are time and memory flat?
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import psutil
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid import mlx_setup
from moshid.model import quantise
from moshid.model.compare import compare
from moshid.model.engine import Sampling
from moshid.model.step import Stepper
from tests.fakes import small_models

MIB: Final = 1 << 20
AT_ONCE: Final = 1000
"""Steps whose median is taken at the beginning and at the end of a long talk."""

MOSHI: Final[dict[str, Any]] = {
    "card": 2048,
    "n_q": 16,
    "dep_q": 8,
    "delays": [0] + ([0] + [1] * 7) * 2,
    "text_card": 32000,
}
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "dim256": MOSHI
    | {
        "dim": 256,
        "num_heads": 4,
        "num_layers": 4,
        "depformer_dim": 128,
        "depformer_num_heads": 2,
        "depformer_num_layers": 2,
        "depformer_dim_feedforward": 384,
    },
    "dim1024": MOSHI
    | {
        "dim": 1024,
        "num_heads": 16,
        "num_layers": 8,
        "depformer_dim": 256,
        "depformer_num_heads": 4,
        "depformer_num_layers": 2,
        "depformer_dim_feedforward": 768,
    },
}
BIG: Final = "moshi-7b"
LONG: Final = small_models.config(dim=128, num_heads=2, context=250)


def build(shape: str, quality: str) -> Any:
    """A model of random weights. The big one's are drawn and quantised one by one."""
    if shape != BIG:
        return small_models.random_lm(small_models.config(**SHAPES[shape]), quality=quality)
    lm = models.Lm(models.config_v0_1())
    lm.set_dtype(mx.bfloat16)
    quantise.quantise_modules(lm, quality)
    quantise.suit_device(lm, quality, on_cpu=mlx_setup.computes_on_cpu())
    for _, weight in tree_flatten(lm.parameters()):
        mx.eval(weight)
    return lm


def side_by_side(shape: str, quality: str, steps: int) -> dict[str, Any]:
    """One line of the table."""
    lm = build(shape, quality)
    figures = compare(lm, Stepper(lm, Sampling()), steps)
    return {"shape": shape, "quality": quality} | figures


def print_line(line: dict[str, Any]) -> None:
    """What ``side_by_side`` gave."""
    ours, theirs = line["ours_ms"], line["lmgen_ms"]
    nodes, waits = line["nodes"], line["waits"]
    print(
        f"{line['shape']:9} {line['quality']:5}"
        f" {ours['p50']:8.1f} {ours['p95']:8.1f} {ours['p99']:8.1f}"
        f" {theirs['p50']:8.1f} {theirs['p95']:8.1f} {theirs['p99']:8.1f}"
        f" {line['ratio']:6.2f} {line['floor_ms']:8.1f} {line['ours_to_floor']:6.1f}"
        f" {nodes['ours']:6} {nodes['lmgen']:6} {nodes['ours'] / nodes['lmgen']:6.2f}"
        f" {waits['ours']:3}/{waits['lmgen']}  {'same' if line['same_tokens'] else 'other'}"
    )


def print_head() -> None:
    """The table's."""
    print(
        f"{'shape':9} {'':5} {'ours p50':>8} {'p95':>8} {'p99':>8}"
        f" {'LmGen':>8} {'p95':>8} {'p99':>8} {'ratio':>6}"
        f" {'floor':>8} {'x':>6} {'nodes':>6} {'LmGen':>6} {'ratio':>6} waits tokens"
    )


def long_talk(frames: int) -> dict[str, Any]:
    """Step times and memory, from when the window is full to the end; milliseconds and MiB."""
    stepper = Stepper(small_models.random_lm(LONG), Sampling())
    process = psutil.Process()
    heard = [1, 2, 3, 4]
    for _ in range(LONG["context"] + AT_ONCE):
        stepper.step(heard)  # and what Python and the allocator take at first
    times_ms, yardstick_ms = (array("d", bytes(8 * frames)) for _ in range(2))
    memory_mib = array("d", bytes(8 * len(range(0, frames, AT_ONCE))))
    measure = yardstick()
    for frame in range(frames):
        times_ms[frame] = timed(lambda: stepper.step(heard))
        yardstick_ms[frame] = timed(measure)
        if frame % AT_ONCE == 0:
            memory_mib[frame // AT_ONCE] = process.memory_info().rss / MIB
    steps, machine = by_thousand(times_ms), by_thousand(yardstick_ms)
    slower, machine_slower = steps[-1] / steps[0], machine[-1] / machine[0]
    return {
        "frames": frames,
        "p50_ms_by_1000": steps,
        "yardstick_ms_by_1000": machine,
        "last_to_first": round(slower, 3),
        "last_to_first_by_yardstick": round(slower / machine_slower, 3),
        "mib_by_1000": [round(mib, 1) for mib in memory_mib],
        "memory_last_to_first": round(memory_mib[-1] / memory_mib[0], 4),
        "reset_ms": round(timed(stepper.reset), 3),
    }


def yardstick() -> Callable[[], object]:
    """The same work each time, of the step's sort, which tells how fast the machine is just now."""
    stepper = Stepper(small_models.random_lm(LONG), Sampling())
    return stepper.exercise


def by_thousand(values: Sequence[float]) -> list[float]:
    """Medians of ``AT_ONCE`` values each."""
    starts = range(0, len(values), AT_ONCE)
    return [round(statistics.median(values[at : at + AT_ONCE]), 3) for at in starts]


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of a call."""
    begun = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", action="append", choices=[*SHAPES, BIG])
    parser.add_argument("--quality", action="append", choices=["bf16", *quantise.GRIDS])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--long", type=int, metavar="FRAMES")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    mlx_setup.prepare()
    result: dict[str, Any] = {"device": str(mx.default_device())}
    if args.long:
        result["long"] = long_talk(args.long)
        print(json.dumps(result["long"], indent=2))
    else:
        print_head()
        result["lines"] = []
        for shape in args.shape or SHAPES:
            for quality in args.quality or ["bf16", *quantise.GRIDS]:
                line = side_by_side(shape, quality, args.steps)
                result["lines"].append(line)
                print_line(line)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
