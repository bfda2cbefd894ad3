"""How fast lost devices are noticed and opened again, and how well two clocks stay together.

``python -m tests.bench.bench_devices [--rounds N] [--case C]... [--json FILE]`` kills JACK and
PulseAudio in a talk and starts them again, stops JACK by a signal, and runs a sound check
between two servers whose clocks are 500 ppm apart. Times are in seconds: from the kill to the event
``lost``, from the server's readiness to the event ``back`` and to the first captured frame.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fakes.jack_rig import jack_server
from tests.fakes.pulse_rig import pulse_server
from tests.integration.test_audio_reopening import JACK, echo, next_of
from tests.integration.test_audio_service import Listener, audio_service
from tests.integration.test_audio_two_servers import sound_check

Row = dict[str, float]
CLOCKS: Final = "500 ppm"
CASES: Final = ("jack killed", "pulse killed", "jack stopped", CLOCKS)
STEADY_FRAMES: Final = 25
"""Two seconds: PulseAudio's own pause after a start is over by then."""


async def lose_and_return(
    folder: Path, params: dict[str, Any], take: Callable[[], None], give: Callable[[], None]
) -> Row:
    """One talk from which the devices are taken and to which they are given back."""
    listener = Listener()
    async with audio_service(folder) as service:
        await service.start_talk(echo(**params), None, None, listener)
        await next_of(listener, "level", frame_min=STEADY_FRAMES)
        taken_s = time.monotonic()
        await asyncio.to_thread(take)
        lost = await next_of(listener, "device", change="lost")
        noticed_s = time.monotonic() - taken_s
        await asyncio.to_thread(give)
        given_s = time.monotonic()
        back = await next_of(listener, "device", lost, change="back")
        opened_s = time.monotonic() - given_s
        await next_of(listener, "level", back)
        heard_s = time.monotonic() - given_s
        await service.stop_talk("a")
    return {"noticed_s": noticed_s, "opened_s": opened_s, "heard_s": heard_s}


async def measure(folder: Path, patch: pytest.MonkeyPatch, case: str) -> Row:
    """One round of ``case``."""
    if case == "pulse killed":
        with pulse_server(folder / "pulse", patch) as pulse:
            return await lose_and_return(folder, {}, pulse.kill, pulse.start_again)
    with jack_server(folder, patch) as jack:
        if case == "jack killed":
            return await lose_and_return(folder, JACK, jack.kill, jack.start_again)
        stop, go = (lambda n=n: jack.signal(n) for n in (signal.SIGSTOP, signal.SIGCONT))
        return await lose_and_return(folder, JACK, stop, go)


async def clocks(folder: Path, patch: pytest.MonkeyPatch) -> Row:
    """A sound check from a server to one that is 500 ppm faster."""
    found = await sound_check(folder, patch)
    settled_ms = [1e3 * s for s in found["queued_s"][-50:]]
    before, after = found["before"], found["after"]
    return {
        "drift_ppm": after["drift_ppm"],
        "gaps_once_settled": after["underruns"] - before["underruns"],
        "queued_ms_mean": statistics.mean(settled_ms),
        "queued_ms_max": max(settled_ms),
    }


async def rounds_of(case: str, rounds: int) -> list[Row]:
    """``case``, ``rounds`` times, each on servers of its own."""
    found = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
            folder = Path(name)
            one = clocks(folder, patch) if case == CLOCKS else measure(folder, patch, case)
            found.append(await one)
    return found


def main(argv: list[str] | None = None) -> None:
    """Print the table as it grows, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(prog="bench_devices", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    found = {}
    for case in args.case or CASES:
        rows = found[case] = asyncio.run(rounds_of(case, args.rounds))
        for name in rows[0]:
            values = [row[name] for row in rows]
            median, most = statistics.median(values), max(values)
            print(f"{case:14} {name:18} median {median:9.3f}  max {most:9.3f}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
