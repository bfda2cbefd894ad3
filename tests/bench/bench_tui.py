"""What the terminal UI costs: ``python -m tests.bench.bench_tui [--seconds S] [--json FILE]``.

Beside a daemon that says nothing, one that talks (12.5 levels and 3 words a second), and one that
sends as much as it can. CPU is the client's own, in percent of one core.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.fakes.client_process import client_env, short_home
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.tui_screen import TuiScreen
from tests.fakes.tui_states import LOG, MODEL, job, talk

LEVELS_PER_S = 12.5
FLOOD_EVENTS_PER_S = 5000.0


def say(daemon: FakeDaemon, number: int) -> None:
    """A frame of a talk."""
    level = {"session": "s1", "input_dbfs": -60.0 + number % 60, "output_dbfs": -number % 60 - 60.0}
    daemon.event("talk.level", {**level, "speech_probability": 0.5})
    if number % 4 == 0:
        daemon.event("talk.text", {"session": "s1", "t_s": number * 0.08, "text": " word"})


@contextmanager
def events(daemon: FakeDaemon, per_s: float) -> Iterator[list[int]]:
    """So many frames a second from a thread; gives how many were sent so far."""
    over, sent = threading.Event(), [0]

    def run() -> None:
        began = time.monotonic()
        while not over.wait(max(0.0, began + sent[0] / per_s - time.monotonic())):
            say(daemon, sent[0])
            sent[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def watch(tui: TuiScreen, seconds: float) -> dict[str, float]:
    """Read the screen for so long; what the client used meanwhile."""
    process = psutil.Process(tui.process.pid)
    before, drawn, began = process.cpu_times(), len(tui.raw), time.monotonic()
    frames = 0
    while (left_s := began + seconds - time.monotonic()) > 0:
        frames += tui.take(left_s)
    after, took_s = process.cpu_times(), time.monotonic() - began
    used_s = after.user + after.system - before.user - before.system
    return {
        "cpu_percent": round(100 * used_s / took_s, 2),
        "reads_per_s": round(frames / took_s, 1),
        "drawn_bytes_per_s": round((len(tui.raw) - drawn) / took_s),
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
    }


def with_events(
    tui: TuiScreen, daemon: FakeDaemon, per_s: float, seconds: float
) -> dict[str, float]:
    """Watch while so many frames a second come."""
    with events(daemon, per_s) as sent:
        facts = watch(tui, seconds)
        return facts | {"events_per_s": round(sent[0] / seconds, 1)}


def measure(seconds: float, columns: int, rows: int) -> dict[str, Any]:
    """All of it at one size."""
    with short_home() as home, FakeDaemon(Path(home) / "moshid.sock") as daemon:
        topics = {
            "model": {"status": MODEL},
            "download": {"jobs": [job()]},
            "talk": {"status": talk()},
            "log": {"lines": [LOG] * 50},
        }
        daemon.replies |= {
            "events.subscribe": {"subscription": 1, "snapshot": topics},
            "daemon.status": {"version": "0.1.0", "pid": 1, "uptime_s": 1.0},
            "model.status": MODEL,
        }
        began = time.monotonic()
        with TuiScreen(client_env(Path(home)), columns=columns, rows=rows) as tui:
            tui.wait_for("connected", "latency")
            facts: dict[str, Any] = {"first_picture_ms": round(1000 * (time.monotonic() - began))}
            tui.take(0.5)
            facts["idle"] = watch(tui, seconds)
            facts["talk"] = with_events(tui, daemon, LEVELS_PER_S, seconds)
            facts["flood"] = with_events(tui, daemon, FLOOD_EVENTS_PER_S, seconds)
            return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = {f"{w}x{h}": measure(args.seconds, w, h) for w, h in ((80, 24), (200, 60))}
    print(
        f"{'window':8} {'':6} {'CPU %':>7} {'reads/s':>8} {'bytes/s':>8} {'events/s':>9} {'MB':>6}"
    )
    for size, facts in result.items():
        print(f"{size:8} first picture after {facts['first_picture_ms']} ms")
        for name in ("idle", "talk", "flood"):
            f = facts[name]
            print(
                f"{size:8} {name:6} {f['cpu_percent']:7} {f['reads_per_s']:8} "
                f"{f['drawn_bytes_per_s']:8} {f.get('events_per_s', 0):9} {f['rss_mb']:6}"
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
