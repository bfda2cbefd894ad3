"""What a stall of two seconds does to a talk: ``python -m tests.bench.bench_recovery``.

``[--stalled model|audio|load] [--picture FILE] [--json FILE]``. A real daemon with the demo model
on JACK's dummy driver; one burst each quarter second. The model's process, or the audio's, is
stopped for two seconds, or processes that burn the CPU are started. Printed: how long after the
stall's end the delay from mouth to ear is what it was before, and what the loop says it lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from moshid.demo.home import World
from moshid.demo.probe import JackProbe, Samples
from moshid.demo.sound import JackServer, sound_environment
from moshid.demo.watch import Watch
from tests.bench import burst_signal
from tests.bench.bench_callbacks import burning
from tests.bench.bench_latency import ready

RATE: Final = 24_000
STALL_AT_S: Final = 8.0
STALL_S: Final = 2.0
BURSTS: Final = 64
EVERY_S: Final = 0.25
NORMAL_MS: Final = 30.0
"""Within so much of what it was before, the delay counts as normal."""

Json = dict[str, Any]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP, SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def measure(what: str) -> Json:
    """One talk with one stall."""
    bursts = burst_signal.make(BURSTS, every_s=EVERY_S)
    with World() as world, JackServer(world.folder) as server:
        world.env = sound_environment(server, world.env)
        ready(world)
        with JackProbe(server) as probe, Watch(world, ["talk"]) as watch:
            client = world.client("talk", "--model", "demo", "--seconds", "24")
            watch.wait_for(lambda _t, data: data.get("state") == "listening", "a talk", 60.0)
            probe.attach()
            time.sleep(1.0)
            probe.play(bursts.pcm, tail_s=2.0)
            begun_s = time.monotonic()
            time.sleep(STALL_AT_S)
            with burning(4) if what == "load" else stopped(_pid(world, what)):
                stalled_s = time.monotonic() - begun_s
                time.sleep(STALL_S)
            ended_s = time.monotonic() - begun_s
            heard = probe.wait(60.0)
            client.wait(60.0)
            status = watch.data("talk")[-1]["status"]
        world.stop_daemon()
    lags = burst_signal.lags_ms(bursts, heard)
    facts = recovery(np.array(bursts.starts) / RATE, lags, stalled_s, ended_s)
    names = ("frames", "lagged_frames", "late_frames", "underruns", "overruns", "missed_ms")
    return facts | {"told": {name: status[name] for name in names}, "level": level(heard)}


def recovery(
    at_s: npt.NDArray[np.float64],
    lags_ms: npt.NDArray[np.float64],
    stalled_s: float,
    ended_s: float,
) -> Json:
    """When the delay was normal again, for three bursts at least, in seconds after the stall."""
    before = float(np.nanmedian(lags_ms[at_s < stalled_s - 0.5]))
    normal = np.abs(lags_ms - before) < NORMAL_MS
    lasting = normal[:-2] & normal[1:-1] & normal[2:]
    heard_at = at_s[:-2] + before / 1e3
    good = heard_at[lasting & (heard_at > ended_s)]
    return {
        "normal_ms": round(before, 1),
        "back_after_s": round(float(good.min()) - ended_s, 2) if len(good) else None,
        "after_ms": round(float(np.nanmedian(lags_ms[at_s > ended_s + 1])), 1),
        "stalled_s": [round(stalled_s, 2), round(ended_s, 2)],
        "at_s": at_s.tolist(),
        "lags_ms": [None if np.isnan(lag) else round(lag, 1) for lag in lags_ms],
    }


def level(heard: Samples) -> list[float]:
    """dB of full scale, each 20 ms."""
    step = RATE // 50
    whole = heard[: len(heard) // step * step].reshape(-1, step)
    power = np.square(whole, dtype=np.float64).mean(axis=1)
    return [round(float(v), 1) for v in 10 * np.log10(power + 1e-9)]


def draw(facts: Json, path: Path) -> None:
    """Level above, delay below, the stall shaded."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 1, figsize=(10, 6), sharex=True, layout="constrained")
    axes[0].plot(np.arange(len(facts["level"])) / 50, facts["level"], lw=0.7)
    axes[0].set(ylabel="heard, dB of full scale", title=f"the {facts['stalled']} stalls for 2 s")
    lags = np.array([np.nan if lag is None else lag for lag in facts["lags_ms"]])
    axes[1].plot(facts["at_s"], lags, "o", ms=3)
    axes[1].axhline(facts["normal_ms"], ls="--", lw=0.8, color="gray")
    missing = np.array(facts["at_s"])[np.isnan(lags)]
    axes[1].plot(missing, np.full(len(missing), 200.0), "x", color="firebrick", label="not heard")
    axes[1].set(ylabel="mouth to ear, ms", xlabel="s", ylim=(180, None))
    axes[1].legend(loc="upper right")
    for axis in axes:
        axis.axvspan(*facts["stalled_s"], color="orange", alpha=0.25)
        axis.set_xlim(4, 17)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _pid(world: World, what: str) -> int:
    workers = world.call("daemon.status")["workers"]
    wanted = {"audio": ("audio", "talking"), "model": ("model", None)}[what]
    found = (w for w in workers if w["name"] == wanted[0] and wanted[1] in (None, w["state"]))
    return int(next(found)["pid"])


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stalled", choices=["model", "audio", "load"], default="model")
    parser.add_argument("--json")
    parser.add_argument("--picture")
    args = parser.parse_args()
    facts = measure(args.stalled) | {"stalled": args.stalled}
    names = ("stalled", "normal_ms", "back_after_s", "after_ms", "stalled_s", "told")
    print("  ".join(f"{name} {facts[name]}" for name in names))
    if args.json:
        Path(args.json).write_text(json.dumps(facts) + "\n")
    if args.picture:
        draw(facts, Path(args.picture))


if __name__ == "__main__":
    main()
