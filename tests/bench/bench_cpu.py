"""What a talk costs, and what nothing costs: ``python -m tests.bench.bench_cpu [--seconds 20]``.

``[--json FILE]``. A real daemon with the demo model on JACK's dummy driver. CPU seconds a second of
each process: idle (the model resident, a spare waiting), and in a talk that hears noise.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from moshid.demo.home import World
from moshid.demo.probe import JackProbe
from moshid.demo.sound import JackServer, sound_environment
from tests.bench.bench_latency import ready

RATE: Final = 24_000
SETTLE_S: Final = 5.0
Use = dict[str, float]


def measure(seconds: float) -> dict[str, Use]:
    """Idle, then a talk."""
    with World() as world, JackServer(world.folder) as server:
        world.env = sound_environment(server, world.env)
        ready(world)
        time.sleep(SETTLE_S)
        found = {"idle": _use(world, seconds)}
        with JackProbe(server) as probe:
            world.call("talk.start", {"model": "demo", "detach": True})
            probe.attach()
            noise = 0.1 * np.random.default_rng(1).standard_normal(round(RATE * seconds * 2))
            probe.play(noise.astype(np.float32))
            time.sleep(SETTLE_S)
            found["talk"] = _use(world, seconds)
            world.call("talk.stop")
        return found


def _use(world: World, seconds: float) -> Use:
    """Cores that each process uses, by its name."""
    workers = world.call("daemon.status")["workers"]
    named = {world.daemon_pid: "daemon"}
    named |= {w["pid"]: f"{w['name']} {w['state']}" for w in workers}
    processes = [psutil.Process(pid) for pid in named]
    before = [sum(p.cpu_times()[:2]) for p in processes]
    begun = time.monotonic()
    time.sleep(seconds)
    used = [sum(p.cpu_times()[:2]) - b for p, b in zip(processes, before, strict=True)]
    whole = time.monotonic() - begun
    use = {named[p.pid]: round(u / whole, 4) for p, u in zip(processes, used, strict=True)}
    return use | {"together": round(sum(used) / whole, 4)}


def main() -> None:
    """Print a line for each process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json")
    args = parser.parse_args()
    found = measure(args.seconds)
    for when, use in found.items():
        for name, cores in use.items():
            print(f"{when:6} {name:20} {100 * cores:6.2f} % of a core")
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
