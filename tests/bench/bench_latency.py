"""Mouth to ear, ours beside the upstream program's: ``python -m tests.bench.bench_latency``.

Bursts of noise go into the input port of JACK's dummy driver and are found again at the output
port. First through a bare pass-through, then through a real daemon with the demo model, as in a
room (echo canceller on) and, with ``--headphones``, without the canceller; with ``--upstream``
through ``moshi_mlx.local`` with the same model and codec. Printed: latencies, and where ours goes.
With ``--json FILE`` as JSON, with ``--picture FILE`` as a histogram.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from moshid.demo import checkpoint
from moshid.demo.home import World
from moshid.demo.probe import JackProbe
from moshid.demo.run import cache_folder
from moshid.demo.sound import JackServer, sound_environment
from moshid.demo.watch import Watch
from moshid.worker_exec import ONE_THREAD
from tests.bench import burst_signal
from tests.bench.burst_signal import Bursts

IMPOSED_MS: Final = 240.0
"""Of the demo model: the frame being filled, the acoustic delay, the answer."""

UPSTREAM_START_S: Final = 8.0
STAGES: Final = ("ahead", "queue", "encode", "step", "decode", "play")
CODEC: Final = ("ahead", "encode", "decode")
"""What is its compute of a frame, whenever it is done."""

Json = dict[str, Any]


def ours(bursts: Bursts, *options: str) -> Json:
    """Through the daemon; its latencies, stages and counters."""
    with World() as world, JackServer(world.folder) as server:
        world.env = sound_environment(server, world.env)
        ready(world)
        seconds = len(bursts.pcm) / 24_000 + 4
        with JackProbe(server) as probe, Watch(world, ["talk"]) as watch:
            length = ("--seconds", f"{seconds:.1f}")
            client = world.client("talk", "--model", "demo", *length, *options)
            watch.wait_for(lambda _t, data: data.get("state") == "listening", "a talk", 60.0)
            probe.attach()
            time.sleep(1.0)
            probe.play(bursts.pcm, tail_s=1.0)
            heard = probe.wait(seconds + 30.0)
            trace = world.call("talk.trace")["spans"]
            model_ms = world.call("model.status")["step_ms"]
            client.wait(60.0)
            status = watch.data("talk")[-1]["status"]
            xruns = probe.xruns
        world.stop_daemon()
    lags, missed = burst_signal.latencies_ms(bursts, heard)
    stages = budget(trace, model_ms)
    return (
        {"latency_ms": lags.tolist(), "missed": missed, "xruns": xruns}
        | stages
        | {name: status[name] for name in ("lagged_frames", "underruns", "overruns")}
        | {"told_ms": status["latency_ms"]}
    )


def ready(world: World) -> None:
    """A daemon with the demo model loaded."""
    checkpoint.build(cache_folder() / "hub" / checkpoint.REPO)
    world.start_hub(cache_folder() / "hub", rate_bps=1e9, cut_at=[])
    world.start_daemon()
    world.run_client("download", "demo")
    world.run_client("load", "demo")


def upstream(bursts: Bursts) -> Json:
    """Through moshi_mlx.local; its latencies."""
    folder = cache_folder() / "hub" / checkpoint.REPO
    checkpoint.build(folder)
    seconds = len(bursts.pcm) / 24_000 + UPSTREAM_START_S + 8
    with tempfile.TemporaryDirectory() as name, JackServer(Path(name)) as server:
        command = [sys.executable, "-m", "tests.fakes.upstream_local", str(folder), str(seconds)]
        environment = ONE_THREAD | sound_environment(server, os.environ)
        with (Path(name) / "log").open("wb") as log:
            child = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        with JackProbe(server) as probe:
            probe.attach()
            time.sleep(UPSTREAM_START_S / 2)
            probe.play(bursts.pcm, tail_s=1.5)
            heard = probe.wait(seconds + 60.0)
            xruns = probe.xruns
        child.terminate()
        os.killpg(child.pid, 9)
        child.wait()
    lags, missed = burst_signal.latencies_ms(bursts, heard, within_s=1.5)
    return {"latency_ms": lags.tolist(), "missed": missed, "xruns": xruns}


def pass_through() -> float:
    """Milliseconds through a program that does nothing but copy, in the same place as ours."""
    noise = np.random.default_rng(5).uniform(-0.5, 0.5, 24_000).astype(np.float32)
    with tempfile.TemporaryDirectory() as name, JackServer(Path(name)) as server:
        command = [sys.executable, "-m", "tests.fakes.pass_through", "30"]
        child = subprocess.Popen(command, env=sound_environment(server, os.environ))
        try:
            with JackProbe(server) as probe:
                probe.attach()
                probe.play(noise, tail_s=1.0)
                heard = probe.wait(30.0)
        finally:
            child.kill()
            child.wait()
    likeness = np.correlate(heard, noise, "valid")
    if likeness.max() < 0.9 * np.dot(noise, noise):
        raise SystemExit("the pass-through passes nothing through")
    return int(np.argmax(likeness)) / 24.0


def budget(spans: list[list[Any]], model_ms: Json) -> Json:
    """Milliseconds a stage, p50 and p95, of the newest minute's frames."""
    times: dict[str, list[float]] = defaultdict(list)
    codec: dict[int, float] = defaultdict(float)
    for stage, frame, _begun, duration_us in spans:
        times[stage].append(duration_us / 1e3)
        codec[frame] += duration_us / 1e3 if stage in CODEC else 0.0
    found = {stage: percentiles(np.array(times[stage])) for stage in STAGES if times[stage]}
    model = {"p50": model_ms["p50"], "p95": model_ms["p95"]}
    whole = percentiles(np.array([ms for ms in codec.values() if ms]))
    return {
        "stages_ms": found,
        "model_step_ms": model,
        "compute_ms": {q: round(whole[q] + model[q], 2) for q in model},
        "ahead_share": round(len(times["ahead"]) / max(1, len(times["encode"])), 2),
    }


def percentiles(values: npt.NDArray[np.float64]) -> dict[str, float]:
    """p50 and p95."""
    return {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95)}


def table(facts: Json) -> str:
    """The lines that are printed."""
    lines = [f"a bare pass-through: {facts['pass_through_ms']:.1f} ms"]
    for name in ("ours", "headphones"):
        if name in facts:
            lines += _ours(name, facts[name])
    if "upstream" in facts:
        theirs = np.array(facts["upstream"]["latency_ms"])
        lines.append(f"upstream: {len(theirs)} bursts, {facts['upstream']['missed']} not found")
        if len(theirs):
            lines.append(_line("mouth to ear", theirs))
            added_ms = float(np.median(facts["ours"]["latency_ms"])) - IMPOSED_MS
            share = added_ms / (float(np.median(theirs)) - IMPOSED_MS)
            lines.append(f"ours adds {share:.2f} of what upstream adds over {IMPOSED_MS:.0f} ms")
    return "\n".join(lines)


def _ours(title: str, mine: Json) -> list[str]:
    lags = np.array(mine["latency_ms"])
    stages, step = mine["stages_ms"], mine["model_step_ms"]
    lines = [f"{title}: {len(lags)} bursts, {mine['missed']} not found"]
    lines += [_line("mouth to ear", lags), f"  {'imposed':24} {IMPOSED_MS:7.1f}"]
    if "ahead" in stages:
        share = f"ahead, {100 * mine['ahead_share']:.0f} % of frames"
        lines.append(_stage(share, stages["ahead"]))
    for name, stage in (("queue", "capture to encoder"), ("encode", "encode")):
        lines.append(_stage(stage, stages[name]))
    hops = {q: stages["step"][q] - step[q] for q in ("p50", "p95")}
    lines += [_stage("step", step), _stage("both hops", hops)]
    lines += [_stage("decode", stages["decode"]), _stage("wait for its turn", stages["play"])]
    compute = mine["compute_ms"]
    lines.append(_stage("compute", compute))
    added = {q: float(np.percentile(lags, int(q[1:]))) - IMPOSED_MS for q in ("p50", "p95")}
    rest = {q: added[q] - compute[q] for q in added}
    lines += [_stage("added over imposed", added), _stage("added, less compute", rest)]
    return [*lines, f"  lagged {mine['lagged_frames']}, underruns {mine['underruns']}"]


def _line(title: str, values: npt.NDArray[np.float64]) -> str:
    return _stage(title, percentiles(values) if len(values) else {"p50": 0.0, "p95": 0.0})


def _stage(title: str, values: dict[str, float]) -> str:
    return f"  {title:24} {values['p50']:7.1f}  p95 {values['p95']:7.1f} ms"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bursts", type=int, default=64)
    parser.add_argument("--upstream", action="store_true")
    parser.add_argument("--headphones", action="store_true", help="without the canceller, too")
    parser.add_argument("--json")
    parser.add_argument("--picture")
    args = parser.parse_args()
    bursts = burst_signal.make(args.bursts)
    facts: Json = {"pass_through_ms": pass_through(), "ours": ours(bursts)}
    if args.headphones:
        facts["headphones"] = ours(bursts, "--no-echo-cancel")
    if args.upstream:
        facts["upstream"] = upstream(bursts)
    print(table(facts))
    if args.json:
        Path(args.json).write_text(json.dumps(facts, indent=1) + "\n")
    if args.picture:
        from tests.bench.latency_picture import draw

        draw(facts, Path(args.picture))


if __name__ == "__main__":
    main()
