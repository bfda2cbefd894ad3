"""How soon a talk hears and is heard, the model being there: ``python -m tests.bench.bench_start``.

``[--starts N] [--json FILE]``. A real daemon with the demo model on JACK's dummy driver. Times are
from ``talk.start``'s sending: to the moment from which sound is captured, to the first whole frame,
to ``talk.start``'s answer, and to the first answer's sound (by the loop's own clock).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from moshid.demo.home import World
from moshid.demo.sound import JackServer, sound_environment
from tests.bench.bench_latency import ready

FRAME_MS: Final = 80.0
LOOK_S: Final = 0.5
QUIET_LOOKS: Final = 3

FRAMES: Final = 12
Times = dict[str, float]


def measure(starts: int) -> list[Times]:
    """One after another."""
    with World() as world, JackServer(world.folder) as server:
        world.env = sound_environment(server, world.env)
        ready(world)
        return [_one(world) for _ in range(starts)]


def _one(world: World) -> Times:
    _wait_for_spare(world)
    with world.connect() as connection:
        begun_ns = time.monotonic_ns()
        connection.call("talk.start", {"model": "demo"})
        answered_ns = time.monotonic_ns()
        spans: list[Any] = []
        while not any(stage == "play" for stage, *_ in spans):
            time.sleep(FRAME_MS / 1e3)
            spans = connection.call("talk.trace", {})["spans"]
        connection.call("talk.stop", {})
    captured_us = min(at for stage, _, at, _ in spans if stage == "queue")
    heard_us = min(at + lasting for stage, _, at, lasting in spans if stage == "play")
    frame_ms = captured_us / 1e3 - begun_ns / 1e6
    return {
        "capturing": frame_ms - FRAME_MS,
        "first frame": frame_ms,
        "answer to talk.start": (answered_ns - begun_ns) / 1e6,
        "first sound": heard_us / 1e3 - begun_ns / 1e6,
        "first sound after first frame": heard_us / 1e3 - captured_us / 1e3,
    }


def _wait_for_spare(world: World) -> None:
    """Until there is one that has nothing more to prepare: it uses no CPU any more."""
    quiet, before = 0, (0, 0.0)
    while quiet < QUIET_LOOKS:
        time.sleep(LOOK_S)
        workers = world.call("daemon.status")["workers"]
        pid = next((w["pid"] for w in workers if w["state"] == "spare"), 0)
        used_s = sum(psutil.Process(pid).cpu_times()[:2]) if pid else 0.0
        same = pid != 0 and pid == before[0] and used_s - before[1] < 0.05
        quiet, before = (quiet + 1 if same else 0), (pid, used_s)


def main() -> None:
    """Print a line for each time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--json")
    args = parser.parse_args()
    times = measure(args.starts)
    rows = {}
    for name in times[0]:
        values = np.array([t[name] for t in times])
        p50, p95 = np.percentile(values, [50, 95])
        rows[name] = {"p50": round(float(p50), 1), "p95": round(float(p95), 1)}
        print(f"{name:32} p50 {p50:7.1f}  p95 {p95:7.1f} ms")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
