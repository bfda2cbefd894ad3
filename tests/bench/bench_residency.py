"""What it costs to have a model resident, to lose it, and to begin a talk: times and memory.

``python -m tests.bench.bench_residency [--rounds N] [--json FILE]``. The demo model by the real
worker process, under the service that the daemon has. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import psutil

from moshid.demo import checkpoint
from moshid.events import Bus
from moshid.ipc import FrameDecoder, FrameKind, TokenFrame
from moshid.model.files import CheckpointPaths, locate
from moshid.model.service import ModelService
from moshid.settings import Settings

MB: Final = 1e6


class Ears:
    """Hears that the model is back; holds the talk's sockets."""

    def __init__(self) -> None:
        self.links: list[socket.socket] = []
        self.restarted = asyncio.Event()

    def hooks(self) -> dict[str, Any]:
        """For ``begin_talk``."""
        return {
            "on_text": lambda _: None,
            "on_gone": lambda _: None,
            "on_restarted": self.restarted.set,
            "on_failed": lambda _: None,
        }


async def timed_ms(work: Callable[[], Awaitable[Any]]) -> float:
    """How long it took."""
    begun = time.perf_counter()
    await work()
    return 1000 * (time.perf_counter() - begun)


async def first_answer(service: ModelService, ears: Ears, epoch: int) -> None:
    """Begin a talk, say one frame, hear its answer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ears.links.append(ours)  # open while the talk is
    loop = asyncio.get_running_loop()
    await service.begin_talk("t", epoch, theirs, {"seed": 1}, **ears.hooks())
    frame = TokenFrame(FrameKind.USER, epoch, 0, tokens=(0,) * 8)
    await loop.sock_sendall(ours, frame.pack())
    while not FrameDecoder().feed(await loop.sock_recv(ours, 4096)):
        pass


async def one_round(service: ModelService, paths: CheckpointPaths) -> dict[str, float]:
    """Load, talk, die, come back, unload."""
    found = {"load": await timed_ms(lambda: service.load(paths, model="demo", quality="bf16"))}
    worker = psutil.Process(service.status()["pid"])
    found["held_alone_mb"] = worker.memory_full_info().uss / MB
    ears = Ears()
    found["talk_start_to_first_answer"] = await timed_ms(lambda: first_answer(service, ears, 1))
    found["begin_again"] = await timed_ms(lambda: first_answer(service, ears, 2))
    os.kill(worker.pid, signal.SIGKILL)
    found["kill_to_ready"] = await timed_ms(ears.restarted.wait)
    found["rejoin_to_first_answer"] = await timed_ms(lambda: first_answer(service, ears, 3))
    await service.end_talk("t")
    for link in ears.links:
        link.close()
    left = psutil.Process(service.status()["pid"])
    found["unload"] = await timed_ms(service.unload)
    assert not left.is_running(), "what it held alone is the system's again"
    return found


async def measure(rounds: int, folder: Path) -> list[dict[str, float]]:
    """The rounds, one after the other."""
    checkpoint.build(folder / "demo")
    paths = locate("moshid/demo", "bf16", {p.name: p for p in (folder / "demo").iterdir()})
    settings = Settings(home=folder, socket=folder / "s", model_restart_backoff_s=0.0)
    service = ModelService(settings, Bus())
    started = asyncio.Event()
    running = asyncio.create_task(service.run(started=started))
    await started.wait()
    try:
        return [await one_round(service, paths) for _ in range(rounds)]
    finally:
        running.cancel()
        await asyncio.wait({running})


def main(argv: list[str] | None = None) -> None:
    """Print the table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="bench_residency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(args.rounds, Path(folder)))
    medians = {name: statistics.median(r[name] for r in found) for name in found[0]}
    for name, value in medians.items():
        unit = "MB" if name.endswith("_mb") else "ms"
        print(f"{name.removesuffix('_mb'):28} {value:9.1f} {unit}")
    print(f"back after a kill in {medians['kill_to_ready'] / medians['load']:.2f} of a load's time")
    if args.json:
        args.json.write_text(json.dumps({"medians": medians, "rounds": found}, indent=1))


if __name__ == "__main__":
    main()
