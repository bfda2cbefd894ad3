"""Downloads through hell for as long as wanted: kills, faults of the line and of the disk, a full
volume, pauses, cancels, deletions, two daemons and huggingface_hub on one cache.

``python -m tests.bench.soak_downloads --seconds 3600 --seed 1 [--json FILE]``; with ``--steps``,
the kills of ``test_downloads_steps`` instead, all there are: each step, each time it is taken,
before and after, with and without a power cut, in each scene. Prints what was survived; exits with
1 if something was not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from moshid.demo.home import World
from tests.fakes.download_deeds import Deeds, Second
from tests.fakes.hell_plan import Hell, together
from tests.fakes.hell_server import HellProcess, hell
from tests.fakes.kill_child import Nursery
from tests.fakes.repos import content
from tests.fakes.tripwire import Wire
from tests.integration.test_downloads_steps import SCENES, Chain, killed_and_lived_on, steps_of

SIZE_BYTES: Final = 12_000_000
VOLUME_BYTES: Final = 64 << 20
REST_LIMIT_S: Final = 90.0


@dataclass
class Outcome:
    """What was done and survived, and what went wrong."""

    seed: int
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    line: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return vars(self) | {"done": dict(self.done), "line": dict(self.line)}

    def tell(self) -> None:
        """Print it."""
        for what, count in sorted((self.done + Counter(self.line)).items()):
            print(f"{count:12,d}  {what}")
        for fault in self.faults:
            print(f"FAULT: {fault}")
        verdict = "survived" if not self.faults else f"{len(self.faults)} faults"
        print(f"{verdict}, seed {self.seed}, {self.seconds:.0f} s")


def plan_of(seed: int, size_bytes: int) -> Hell:
    """Everything at once, thick enough for such a file; a byte in a hundred ranges is wrong on
    arrival."""
    return replace(
        together(offline_s=2.0),
        seed=seed,
        capacity_bps=8e6,
        cut_bytes=(size_bytes // 30, size_bytes // 6),
        stall_bytes=size_bytes // 2,
        flip_share=0.01,
        url_ttl_s=3.0,
        drip_s=1.0,
    )


@contextmanager
def small_volume(folder: Path) -> Iterator[None]:
    """A volume of ``VOLUME_BYTES`` at ``folder``, where the system lets us; else a plain folder."""
    folder.mkdir(parents=True)
    mounts = sys.platform == "linux" and os.geteuid() == 0
    size = f"size={VOLUME_BYTES}"
    if mounts:
        command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
        mounts = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield
    finally:
        if mounts:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def soak(
    seconds: float,
    seed: int,
    *,
    deeds_max: int = sys.maxsize,
    size_bytes: int = SIZE_BYTES,
    names: Collection[str] | None = None,
) -> Outcome:
    """Deed after deed; then the file has to arrive."""
    rng, outcome, began_s = random.Random(seed), Outcome(seed), time.monotonic()
    file_bytes = content(size_bytes, seed)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        (folder / "file").write_bytes(file_bytes)
        line: HellProcess = stack.enter_context(hell(folder / "file", plan_of(seed, size_bytes)))
        first = stack.enter_context(World())
        first.env["HF_ENDPOINT"] = line.endpoint
        stack.enter_context(small_volume(first.hf_cache))
        second = stack.enter_context(Second(first))
        deeds = Deeds([first, second], file_bytes, rng, names)
        for world in deeds.worlds:
            world.start_daemon()
        while time.monotonic() - began_s < seconds and deeds_max and not deeds.faults:
            deeds.act()
            deeds_max -= 1
        deeds.come_to_rest(REST_LIMIT_S)
        for world in deeds.worlds:
            for name in ("bytes_fetched", "bytes_refetched", "chunks_corrupt", "retries"):
                outcome.done[f"{name} of the last jobs"] += sum(j[name] for j in deeds.jobs(world))
        outcome.line = _line(line.report())
    outcome.done, outcome.faults = outcome.done + deeds.done, deeds.faults
    outcome.seconds = time.monotonic() - began_s
    return outcome


def _line(report: dict[str, Any]) -> dict[str, int]:
    kinds = {f"of the line: {k}": n for k, n in report["counts"].items()}
    return kinds | {"of the line: bytes of the file": int(report["file_bytes"])}


async def all_steps(seconds: float, seed: int) -> Outcome:
    """Each step, each time, before and after, with and without a power cut, in each scene; in an
    order drawn by lot, for as long as there is time."""
    rng, outcome, began_s = random.Random(seed), Outcome(seed), time.monotonic()
    with Nursery() as nursery, tempfile.TemporaryDirectory(prefix="steps-") as name:
        fates = []
        for scene in SCENES:
            steps = await steps_of(scene, Path(name) / scene.name, nursery)
            fates += [(scene, chain) for chain in _every_chain(steps)]
        rng.shuffle(fates)
        for scene, chain in fates:
            if time.monotonic() - began_s > seconds:
                break
            folder = Path(name) / "life"
            try:
                outcome.done += await killed_and_lived_on(scene, chain, folder, nursery, rng)
            except (AssertionError, OSError, ValueError, ExceptionGroup) as e:
                outcome.faults.append(f"{scene.name}: {chain}: {e!r}")
                print(outcome.faults[-1], flush=True)
            outcome.done[f"lives of {len(fates)} that there are"] += 1
            shutil.rmtree(folder)
    outcome.seconds = time.monotonic() - began_s
    return outcome


def _every_chain(steps: Counter[str]) -> Iterator[Chain]:
    for step, count in sorted(steps.items()):
        ways = itertools.product(range(1, count + 1), (True, False), (True, False))
        for nth, before, power_cut in ways:
            yield Chain((Wire(step, nth, before),), power_cut)


def main(argv: list[str] | None = None) -> int:
    """Soak, report, and say by the exit code whether all was survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", action="store_true", help="kills at every step instead")
    parser.add_argument("--json", type=Path, help="write the outcome there too")
    args = parser.parse_args(argv)
    print(f"seed {args.seed}")
    if args.steps:
        outcome = asyncio.run(all_steps(args.seconds, args.seed))
    else:
        outcome = soak(args.seconds, args.seed)
    outcome.tell()
    if args.json is not None:
        args.json.write_text(json.dumps(outcome.to_json(), indent=1))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
