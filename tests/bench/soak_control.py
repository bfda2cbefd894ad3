"""Rude clients against a real daemon for a while; then everything has to be as it was before.

Run it: ``python -m tests.bench.soak_control --seconds 60 --seed 1``. It prints what was survived
and exits with 1 if something was not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from moshi_client.errors import ClientError
from moshid.demo import checkpoint
from moshid.demo.home import World
from moshid.demo.watch import Watch
from moshid.talk.states import TRANSITIONS, TalkState
from tests.fakes.rude_clients import RudeClient

CLIENTS: Final = 4
CALM_LIMIT_S: Final = 60.0
POLL_S: Final = 0.1
EXPECTED_ERRORS: Final = ("the model failed: it died",)
"""Log lines at level error that killing workers has to bring."""


@dataclass
class Outcome:
    """What was done and survived, and what went wrong."""

    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    talks: int = 0
    events: int = 0


class Listener:
    """Follows talk and model events from the first to the last; checks their order."""

    def __init__(self, world: World) -> None:
        self.faults: list[str] = []
        self.events = 0
        self.talks: dict[str, TalkState] = {}
        self._world = world
        self._seq = 0
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener")

    def start(self) -> None:
        """Begin to listen; whatever happens from here on is heard."""
        self._thread.start()
        self._ready.wait(CALM_LIMIT_S)

    def finish(self) -> None:
        """Stop listening; every talk has to have ended."""
        self._over.set()
        self._thread.join()
        open_ones = [s for s, state in self.talks.items() if TRANSITIONS[state]]
        self.faults += [f"talk {s} never ended: {self.talks[s]}" for s in open_ones]

    def _listen(self) -> None:
        try:
            with self._world.connect() as connection:
                connection.call("events.subscribe", {"topics": ["talk", "model"]})
                self._ready.set()
                while not self._over.is_set():
                    if (note := connection.take(POLL_S)) is not None:
                        self._take(*note)
        except ClientError as e:
            self.faults.append(f"the listener lost the daemon: {e}")

    def _take(self, method: str, params: dict[str, Any]) -> None:
        if method != "event":
            self.faults.append(f"{method}: {params}")
            return
        self.events += 1
        self._seq += 1
        if params["seq"] != self._seq:
            self.faults.append(f"event {params['seq']} came where {self._seq} was due")
        data = params["data"]
        if params["topic"] == "talk" and "state" in data:
            self._move(data["session"], TalkState(data["state"]))

    def _move(self, session: str, new: TalkState) -> None:
        old = self.talks.get(session, TalkState.IDLE)
        if new is not old and new not in TRANSITIONS[old]:
            self.faults.append(f"talk {session} went from {old} to {new}")
        self.talks[session] = new


def soak(world: World, seconds: float, seed: int, folder: Path) -> Outcome:
    """Run ``CLIENTS`` rude clients against a daemon with the demo model; check what is left."""
    _talk_through(world, folder)  # so that whatever is made once is there
    _calm(world)
    base_fds = psutil.Process(world.daemon_pid).num_fds()
    listener = Listener(world)
    listener.start()
    clients = [RudeClient(world, f"{seed}:{n}", folder) for n in range(CLIENTS)]
    outcome = Outcome()
    until_s = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_be_rude, args=(client, until_s, outcome)) for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        outcome.done += client.done
        outcome.faults += client.faults
    _come_to_rest(world, folder, base_fds, listener, outcome)
    return outcome


def _be_rude(client: RudeClient, until_s: float, outcome: Outcome) -> None:
    try:
        while time.monotonic() < until_s:
            client.act()
    except (OSError, ValueError) as e:
        outcome.faults.append(f"a client's deed failed: {e!r} after {dict(client.done)}")


def _come_to_rest(
    world: World, folder: Path, base_fds: int, listener: Listener, outcome: Outcome
) -> None:
    """A talk works, no process or descriptor is left over, and the daemon stops in order."""
    daemon = psutil.Process(world.daemon_pid)
    try:
        _wait(lambda: world.call("talk.status")["session"] is None, "the last talk's end")
        _talk_through(world, folder)
        _calm(world)
        _wait(lambda: _strays(world, daemon) == [], "the end of stray workers")
        _wait(lambda: daemon.num_fds() <= base_fds + 1, f"descriptors to fall to {base_fds}")
        listener.finish()
    except (TimeoutError, ClientError) as e:
        outcome.faults.append(f"{e} (fds {daemon.num_fds()}, strays {_strays(world, daemon)})")
        listener.finish()
    children = daemon.children(recursive=True)
    if (code := world.stop_daemon()) != 0:
        outcome.faults.append(f"the daemon stopped with {code}:\n{world.daemon_log()}")
    if left := psutil.wait_procs(children, timeout=10.0)[1]:
        outcome.faults.append(f"processes outlived the daemon: {left}")
    outcome.faults += listener.faults + list(_errors(world.home / "moshid.log"))
    outcome.talks, outcome.events = len(listener.talks), listener.events


def _talk_through(world: World, folder: Path) -> None:
    """A whole talk with the demo model."""
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(folder / "whole.wav")}
    with world.connect() as owner, Watch(world, ["talk"]) as watch:
        owner.call("talk.start", {"model": "demo", "fast": True, "seed": 1, **files})
        watch.wait_for(lambda _t, d: d.get("state") in ("stopped", "failed"), "its end", 60.0)
        status = watch.data("talk")[-1]["status"]
    if (status["state"], status["reason"]) != ("stopped", "input_end"):
        raise TimeoutError(f"a talk does not work any more: {status}")


def _calm(world: World) -> None:
    """Wait until the model is ready and one spare stands by."""
    world.call("model.load", {"model": "demo"})

    def at_rest() -> bool:
        workers = world.call("daemon.status")["workers"]
        return sorted(w["state"] for w in workers) == ["ready", "spare"]

    _wait(at_rest, "the workers to be at rest")


def _strays(world: World, daemon: psutil.Process) -> list[int]:
    """Processes of the daemon that it does not know of."""
    known = {w["pid"] for w in world.call("daemon.status")["workers"]}
    return [child.pid for child in daemon.children(recursive=True) if child.pid not in known]


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + CALM_LIMIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited in vain for {what}")
        threading.Event().wait(POLL_S)


def _errors(log: Path) -> Iterator[str]:
    for line in log.read_text().splitlines():
        record = json.loads(line)
        bad = record["level"] in ("error", "critical") or "exception" in record
        if bad and not record["msg"].startswith(EXPECTED_ERRORS):
            yield f"log: {line}"


@contextmanager
def demo_world(checkpoint_folder: Path, folder: Path) -> Iterator[World]:
    """A daemon with the demo model on disk and in memory, and impatient about restarts."""
    place = folder / "hub" / checkpoint.REPO
    place.parent.mkdir(parents=True)
    place.symlink_to(checkpoint_folder)
    with World() as world:
        world.env["MOSHID_MODEL_RESTART_BACKOFF_S"] = "0.05"
        world.start_hub(folder / "hub", rate_bps=1e9, cut_at=[])
        world.start_daemon()
        world.call("download.start", {"model": "demo", "wait": True})
        world.call("model.load", {"model": "demo"})
        yield world


def main(argv: list[str] | None = None) -> int:
    """Soak, report, and say by the exit code whether all was survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    root = Path(__file__).resolve().parents[2]
    built = Path(os.environ.get("MOSHID_TEST_CACHE") or root / ".cache") / "demo-checkpoint"
    checkpoint.build(built)
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        with demo_world(built, folder) as world:
            outcome = soak(world, args.seconds, args.seed, folder)
    for what, count in sorted(outcome.done.items()):
        print(f"{count:6d}  {what}")
    print(f"{outcome.talks:6d}  talks that began and ended; {outcome.events} events in order")
    for fault in outcome.faults:
        print(f"FAULT: {fault}")
    print("survived" if not outcome.faults else f"{len(outcome.faults)} faults")
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
