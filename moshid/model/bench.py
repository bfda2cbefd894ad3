"""The benchmark: real steps on the loaded engine, and how fast its bytes are read. Worker only.

Owns what a benchmark's numbers mean; times come from the monitor, as in a talk.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from moshid.errors import InvalidParams, ModelWanted
from moshid.model import memory
from moshid.model.compare import UNCOUNTED_STEPS, read_bandwidth
from moshid.model.engine import FRAME_BUDGET_MS, Sampling
from moshid.model.footprint import Footprint
from moshid.model.messages import (
    Bandwidth,
    BenchParams,
    BenchResult,
    BenchTimes,
    Percentiles,
)
from moshid.model.monitor import Monitor, as_known
from moshid.model.timings import StepTimes

MEMORY_TO_SPARE_BYTES: Final = 4 * 1024**3

COMPARED_STEPS_MIN: Final = UNCOUNTED_STEPS + 1

Span = tuple[str, int, int, int]


def run(monitor: Monitor, params: BenchParams, is_wanted: Callable[[], bool]) -> BenchResult:
    """Step on random frames, in a conversation of its own.

    Raises:
        InvalidParams: too few steps to compare.
        ModelWanted: ``is_wanted``: the model is wanted for something else.
        ModelError: it is sick.
    """
    if params.compare and params.steps < COMPARED_STEPS_MIN:
        raise InvalidParams(f"a comparison takes at least {COMPARED_STEPS_MIN} steps")
    engine = monitor.engine
    monitor.begin(0, Sampling())
    spans = _steps(monitor, params.steps, is_wanted)
    memory_bytes = engine.memory_bytes()
    compared = None
    if params.compare:
        compared = monitor.compare(params.steps, lambda: _give_way(is_wanted, "comparing"))
    monitor.begin(0, Sampling())
    times = StepTimes(params.steps)
    for _, _, _, duration_us in spans:
        times.add(duration_us / 1000)
    step_ms = times.bench()
    machine = machine_bps() if params.floor else None
    return BenchResult(
        steps=params.steps,
        step_ms=step_ms,
        budget_ms=FRAME_BUDGET_MS,
        budget_share=share_of_budget(step_ms),
        realtime=step_ms.p99 <= FRAME_BUDGET_MS,
        memory_bytes=memory_bytes,
        bandwidth=bandwidth(engine.footprint, params.steps, step_ms.p50, machine),
        compare=compared,
        trace=spans if params.trace else None,
    )


def _steps(monitor: Monitor, steps: int, is_wanted: Callable[[], bool]) -> list[Span]:
    engine, spans = monitor.engine, []
    rng = random.Random(0)
    for done in range(steps):
        _give_way(is_wanted, f"after {done} of {steps} steps")
        heard = [rng.randrange(engine.card) for _ in range(engine.facts.codebooks_user)]
        begun_ns = time.monotonic_ns()
        monitor.step(heard)
        ended_ns = time.monotonic_ns()
        spans.append(("step", done, begun_ns // 1000, (ended_ns - begun_ns) // 1000))
    return spans


def _give_way(is_wanted: Callable[[], bool], when: str) -> None:
    if is_wanted():
        raise ModelWanted(f"the benchmark gave way {when}")


def share_of_budget(step_ms: BenchTimes) -> Percentiles:
    """Step times as shares of the frame's 80 ms."""
    p50, p95, p99 = (
        round(ms / FRAME_BUDGET_MS, 4) for ms in (step_ms.p50, step_ms.p95, step_ms.p99)
    )
    return Percentiles(p50=p50, p95=p95, p99=p99)


def bandwidth(
    footprint: Footprint, steps: int, median_ms: float, machine: float | None
) -> Bandwidth:
    """What ``steps`` steps from an empty cache read, a step, against what the machine can."""
    mean = sum(footprint.read_bytes(done + 1) for done in range(steps)) // steps
    full = footprint.read_bytes(footprint.context)
    return Bandwidth(
        weights_bytes=footprint.weights_bytes,
        step_bytes=mean,
        full_step_bytes=full,
        reached_bps=round(mean / (median_ms / 1000.0)),
        needed_bps=round(full / (FRAME_BUDGET_MS / 1000.0)),
        machine_bps=round(machine) if machine else None,
        floor_ms=round(1000.0 * mean / machine, 3) if machine else None,
    )


def machine_bps(read: Callable[[], float] = read_bandwidth) -> float | None:
    """Bytes a second that one pass over memory reaches here; None when there is little memory,
    which is not taken for this.

    Raises:
        ModelError: MLX cannot do it: the model is sick, too.
    """
    available = memory.available_bytes()
    if available is not None and available < MEMORY_TO_SPARE_BYTES:
        return None
    try:
        return read()
    except (MemoryError, RuntimeError, OSError) as e:
        raise as_known(e) from e
