"""A talk for as long as wanted: ``python -m tests.bench.bench_soak_audio --minutes 60``.

``[--json FILE]``. A real daemon with the demo model on JACK's dummy driver, while the same daemon
downloads at full speed from a Hub on loopback, again and again. Bursts are spoken all the time and
looked for at the output. Printed each minute: what the loop says it lost, the delay, and what the
processes use. At the end: bursts not heard beside what was announced; exit code 1 if more.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil

from moshi_client.errors import ClientError
from moshid.demo import checkpoint
from moshid.demo.home import DemoFailed, World
from moshid.demo.probe import JackProbe, Samples
from moshid.demo.run import cache_folder
from moshid.demo.sound import JackServer, sound_environment
from tests.bench import burst_signal
from tests.bench.bench_latency import ready

RATE: Final = 24_000
LOOP_BURSTS: Final = 20
FRAME_S: Final = 0.08
FILE: Final = "model.safetensors"
COUNTERS: Final = (
    *("frames", "lagged_frames", "late_frames", "underruns", "overruns", "missed_ms"),
)
LOOK_S: Final = 2.0
Json = dict[str, Any]


@contextmanager
def downloading(world: World) -> Iterator[list[int]]:
    """The demo's weights by URL at full speed, deleted and fetched again until the block is left;
    gives the list of sizes fetched."""
    source = cache_folder() / "hub" / checkpoint.REPO / FILE
    digest = hashlib.file_digest(source.open("rb"), "sha256").hexdigest()
    url = f"{world.env['HF_ENDPOINT']}/{checkpoint.REPO}/resolve/main/{FILE}"
    over = threading.Event()
    fetched: list[int] = []

    def run() -> None:
        while not over.is_set():
            output = world.folder / f"again-{len(fetched)}.bin"
            given = {"url": f"{url}?{len(fetched)}", "sha256": digest, "output": str(output)}
            try:
                job = world.call("download.start", given | {"wait": True})["job"]
            except ClientError as e:
                print(f"a download failed: {e}", file=sys.stderr)
                over.wait(1.0)
                continue
            fetched.append(job["bytes_fetched"])
            output.unlink(missing_ok=True)

    thread = threading.Thread(target=run, name="downloads")
    thread.start()
    try:
        yield fetched
    finally:
        over.set()
        thread.join()


def soak(minutes: float) -> Json:
    """The whole of it."""
    loop = burst_signal.make(LOOP_BURSTS, first_s=0.4)
    frames = int(np.ceil(len(loop.pcm) / RATE / FRAME_S))
    length = round(frames * FRAME_S * RATE)  # whole frames: each loop meets them the same way
    pattern = np.pad(loop.pcm, (0, length - len(loop.pcm)))
    loops = max(1, round(minutes * 60 * RATE / length))
    with World() as world, JackServer(world.folder) as server:
        world.env = sound_environment(server, world.env)
        ready(world)
        with JackProbe(server) as probe, downloading(world) as fetched:
            world.call("talk.start", {"model": "demo", "detach": True})
            probe.attach()
            time.sleep(2.0)
            probe.play(np.tile(pattern, loops), tail_s=2.0)
            samples = _watch(world, probe, loops * length / RATE)
            heard = probe.wait(60.0)
            status = world.call("talk.stop")
            xruns = probe.xruns
        world.stop_daemon()
    lags = _lags(loop, pattern, heard, loops)
    return {
        "minutes": round(loops * length / RATE / 60, 1),
        "counters": {name: status[name] for name in COUNTERS},
        "bursts": len(lags),
        "not_heard": int(np.isnan(lags).sum()),
        "announced_bursts_max": _announced(status),
        "latency_ms": _spread(lags[~np.isnan(lags)]),
        "latency_by_minute_ms": _by_minute(lags, length / RATE / LOOP_BURSTS),
        "probe_xruns": xruns,
        "downloaded_bytes": sum(fetched),
        "downloads": len(fetched),
        "samples": samples,
    }


def _watch(world: World, probe: JackProbe, seconds: float) -> list[Json]:
    """Once a minute, what is said and used, until the time is over.

    Who is replaced has other ports: the probe is attached to them, and what was not heard meanwhile
    counts as not heard.
    """
    begun = time.monotonic()
    samples: list[Json] = []
    while (gone := time.monotonic() - begun) < seconds:
        time.sleep(min(LOOK_S, seconds - gone))
        status = world.call("talk.status")
        if status["session"] is None:
            raise DemoFailed(f"the talk has ended by itself:\n{world.daemon_log()}")
        if not probe.is_attached:
            print(f"attached again\n{world.daemon_log()[-2000:]}", flush=True)
            probe.attach()
        if time.monotonic() - begun < 60.0 * (len(samples) + 1):
            continue
        sample = {name: status[name] for name in COUNTERS}
        sample |= {"at_s": round(time.monotonic() - begun), "told_ms": status["latency_ms"]}
        sample |= _use(world)
        samples.append(sample)
        print("  ".join(f"{k} {v}" for k, v in sample.items()), flush=True)
    return samples


def _use(world: World) -> Json:
    use: Json = {}
    daemon = psutil.Process(world.daemon_pid)
    named = {w["pid"]: f"{w['name']}_{w['state']}" for w in world.call("daemon.status")["workers"]}
    for process in (daemon, *daemon.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = "daemon" if process is daemon else named.get(process.pid, "other")
            times = process.cpu_times()
            use[f"{name}_mb"] = round(process.memory_info().rss / 1e6)
            use[f"{name}_cpu_s"] = round(times.user + times.system, 1)
    return use


def _lags(
    loop: burst_signal.Bursts, pattern: Samples, heard: Samples, loops: int
) -> npt.NDArray[np.float64]:
    """Of each burst of each loop, NaN where it was not heard."""
    rendered = burst_signal.renderings(pattern)
    lags = []
    for n in range(loops):
        part = heard[n * len(pattern) :]
        lags += [burst_signal.best_lag(start, rendered, part) for start in loop.starts]
    return np.array(lags) / RATE * 1e3


def _announced(status: Json) -> int:
    """How many bursts at most may be missing for what was told: one of 0.72 s for each run of lost
    frames, so at most one a frame, and one for each joint."""
    missed = int(np.ceil(status["missed_ms"] / 80))
    joints = status["underruns"] + status["overruns"]
    return int(status["lagged_frames"] + status["late_frames"] + missed + 2 * joints)


def _spread(values: npt.NDArray[np.float64]) -> Json:
    return {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (5, 50, 95, 100)}


def _by_minute(lags: npt.NDArray[np.float64], every_s: float) -> list[float]:
    size = max(1, round(60 / every_s))
    parts = [lags[i : i + size] for i in range(0, len(lags), size)]
    return [round(float(np.nanmedian(part)), 1) for part in parts if not np.isnan(part).all()]


def main() -> None:
    """Soak, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--json")
    args = parser.parse_args()
    facts = soak(args.minutes)
    print(json.dumps({k: v for k, v in facts.items() if k != "samples"}, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(facts, indent=1) + "\n")
    sys.exit(int(facts["not_heard"] > facts["announced_bursts_max"]))


if __name__ == "__main__":
    main()
