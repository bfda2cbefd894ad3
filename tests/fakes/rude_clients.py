"""Clients as nobody wants them: they send nonsense, leave, cancel, and kill workers. Seeded."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from moshid.demo import checkpoint
from moshid.demo.home import World

Json = dict[str, Any]

REPLY_LIMIT_S: Final = 90.0
"""An answer that takes longer counts as a hang: loading the demo model takes a few seconds."""

NONSENSE: Final = (
    b"{not json",
    b"\xff\xfe\x00",
    b"[" * 5000,
    b"[]",
    b"3",
    b"null",
    b'{"jsonrpc":"2.0","id":1e400,"method":"daemon.status"}',
    b'{"jsonrpc":"2.0","id":36893488147419103232,"method":"daemon.status"}',
    b'{"jsonrpc":"2.0","id":true,"method":"daemon.status"}',
    b'{"jsonrpc":"2.0","id":1,"method":"daemon.status","params":[1]}',
    b'{"jsonrpc":"2.0","method":"events.subscribe","params":{"topics":["talk"]}}',
    b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":[]}}',
    b'"' + b"x" * (1 << 20) + b'"',
)
WRONG: Final[tuple[tuple[str, Json], ...]] = (
    ("model.load", {"model": "a/\0b"}),
    ("model.load", {"model": "../.."}),
    ("model.load", {"model": ""}),
    ("model.bench", {"steps": 10**12}),
    ("download.start", {"repo": "no/body", "revision": "../x", "files": ["../../etc/passwd"]}),
    ("download.start", {"repo": "moshid/none"}),
    ("download.get", {"id": "\0"}),
    ("download.pause", {"id": "demo"}),
    ("talk.start", {"engine": "echo", "in_file": "/a\0b", "out_file": "/dev/full"}),
    ("talk.start", {"engine": "echo", "input": 10**30}),
    ("talk.start", {"engine": "echo", "seconds": 1e308}),
    ("talk.start", {"engine": "echo", "in_file": "/", "out_file": "/"}),
    ("talk.start", {"model": "demo", "text_top_k": 10**18}),
    ("events.subscribe", {"topics": ["talk"] * 1000}),
    ("events.unsubscribe", {"subscription": -(10**20)}),
    ("no.such.method", {"x": {"y": [None]}}),
)
STEERING: Final[tuple[tuple[str, Json], ...]] = (
    ("model.load", {"model": "demo"}),
    ("model.load", {"model": "demo", "quality": "q8"}),
    ("model.load", {"model": "demo", "wait": False}),
    ("model.unload", {}),
    ("model.bench", {"steps": 200}),
)
FETCHING: Final[tuple[tuple[str, Json], ...]] = (
    ("download.verify", {"model": "demo", "repair": True}),
    ("download.start", {"model": "demo", "wait": True}),
    ("download.start", {"model": "demo", "revision": "\0"}),
    ("download.pause", {"id": "demo"}),
    ("download.resume", {"id": "demo"}),
    ("download.cancel", {"id": "demo"}),
)
ENDINGS: Final = ("leave", "leave later", "cancel", "lose a worker", "stop", "stop twice")
QUICK: Final = ("daemon.status", "model.list", "model.status", "talk.status", "download.list")


class Line:
    """A connection that sends what it is told and need not wait."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(path))
        self._file = self._sock.makefile("rb")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sock.close()

    def send_raw(self, data: bytes) -> None:
        """One line as it is."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(data + b"\n")

    def send(self, *calls: tuple[str, Json], batch: bool = False) -> None:
        """Requests numbered from 1."""
        requests = [
            {"jsonrpc": "2.0", "id": n, "method": method, "params": params}
            for n, (method, params) in enumerate(calls, 1)
        ]
        for value in [requests] if batch else requests:
            self.send_raw(json.dumps(value).encode())

    def linger(self, seconds: float) -> None:
        """Stay connected for a while, or until something is said."""
        select.select([self._sock], [], [], seconds)

    def replies(self, count: int) -> list[Json]:
        """Wait for so many replies; events in between are passed over.

        Raises:
            TimeoutError: the daemon hangs.
        """
        found: list[Json] = []
        while len(found) < count:
            self._sock.settimeout(REPLY_LIMIT_S)
            line = self._file.readline()
            if not line:
                raise ConnectionError("the daemon closed the connection")
            value = json.loads(line)
            values = value if isinstance(value, list) else [value]
            found += [v for v in values if "method" not in v]
        return found


class RudeClient:
    """Does one seeded thing after the other; ``done`` counts what, ``faults`` lists our own."""

    def __init__(self, world: World, seed: str, folder: Path) -> None:
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self._world = world
        self._rng = random.Random(seed)
        self._out = folder / f"out-{seed.replace(':', '-')}.wav"
        self._deeds: list[tuple[int, Callable[[], None]]] = [
            (4, self.ask),
            (4, self.talk_nonsense),
            (4, self.ask_wrongly),
            (8, self.talk),
            (2, self.talk_and_stop_in_one_breath),
            (6, self.steer_the_model),
            (3, self.steer_downloads),
            (2, self.listen_without_reading),
            (1, self.ask_for_devices),
            (3, self.kill_a_worker),
        ]

    def act(self) -> None:
        """One deed."""
        weights, deeds = zip(*self._deeds, strict=True)
        (deed,) = self._rng.choices(deeds, weights)
        deed()

    def ask(self) -> None:
        """Ordinary questions."""
        method = self._rng.choice(QUICK)
        self._call(method, {})

    def talk_nonsense(self) -> None:
        """Lines that are no requests; the connection, or at least the daemon, survives them."""
        with self._line() as line:
            for data in self._rng.sample(NONSENSE, 3):
                line.send_raw(data)
                self.done["nonsense lines"] += 1
            self._leave_or_stay(line)

    def ask_wrongly(self) -> None:
        """Requests with parameters that cannot be right."""
        with self._line() as line:
            calls = self._rng.sample(WRONG, self._rng.randint(1, 4))
            line.send(*calls, batch=self._rng.random() < 0.3)
            self.done["wrong calls"] += len(calls)
            if self._rng.random() < 0.7:
                self._look_at(line.replies(len(calls)))

    def talk(self) -> None:
        """Start a talk; leave, cancel, stop or see it through."""
        params = self._talk_params()
        ending = self._rng.choice(ENDINGS)
        with self._line() as line:
            line.send(("talk.start", params))
            line.linger(0 if ending == "leave" else self._rng.uniform(0, 2))
            if ending == "cancel":
                line.send_raw(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}')
                self._look_at(line.replies(1))
            elif ending == "lose a worker":
                self._look_at(line.replies(1))
                self.kill_a_worker()
                line.linger(self._rng.uniform(0, 2))
            elif ending.startswith("stop"):
                stops = 2 if ending == "stop twice" else 1
                line.send(*[("talk.stop", {})] * stops)
                self._look_at(line.replies(1 + stops))
        self.done[f"talk: {ending}"] += 1

    def talk_and_stop_in_one_breath(self) -> None:
        """Start and stop in one batch."""
        with self._line() as line:
            line.send(("talk.start", self._talk_params()), ("talk.stop", {}), batch=True)
            self._look_at(line.replies(2))
        self.done["talk: one breath"] += 1

    def steer_the_model(self) -> None:
        """Load, unload, measure; often without waiting for the answer."""
        call = self._rng.choice(STEERING)
        with self._line() as line:
            line.send(call)
            self._leave_or_stay(line, replies=1)
        self.done[call[0]] += 1

    def steer_downloads(self) -> None:
        """Verify, start, pause, resume; often without waiting."""
        call = self._rng.choice(FETCHING)
        with self._line() as line:
            line.send(call)
            self._leave_or_stay(line)
        self.done[call[0]] += 1

    def listen_without_reading(self) -> None:
        """Subscribe to everything, ask much, read nothing."""
        with self._line() as line:
            topics = ["download", "model", "talk", "talk.text", "talk.level", "daemon"]
            line.send(("events.subscribe", {"topics": topics}), *[("model.list", {})] * 40)
            line.linger(self._rng.uniform(0, 1))
        self.done["deaf listeners"] += 1

    def ask_for_devices(self) -> None:
        """A worker of its own is started for the answer."""
        with self._line() as line:
            line.send(*[("audio.devices", {})] * 3)
            self._leave_or_stay(line, replies=3)
        self.done["audio.devices"] += 3

    def kill_a_worker(self) -> None:
        """SIGKILL one of them."""
        workers = self._call("daemon.status", {}).get("result", {}).get("workers", [])
        if workers:
            worker = self._rng.choice(workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker["pid"], signal.SIGKILL)
                self.done[f"killed: {worker['name']} ({worker['state']})"] += 1

    def _talk_params(self) -> Json:
        params: Json = {"out_file": str(self._out), "in_file": str(checkpoint.speech_wav())}
        params["fast"] = self._rng.random() < 0.4
        if self._rng.random() < 0.3:
            return params | {"engine": "echo"}
        return params | {"model": "demo", "ensure": self._rng.random() < 0.5}

    def _line(self) -> Line:
        return Line(self._world.socket)

    def _call(self, method: str, params: Json) -> Json:
        with self._line() as line:
            line.send((method, params))
            (reply,) = line.replies(1)
        self._look_at([reply])
        self.done[method] += 1
        return reply

    def _leave_or_stay(self, line: Line, replies: int = 0) -> None:
        """Leave at once, after a while, or with the answer."""
        mood = self._rng.random()
        if mood < 0.3 and replies:
            self._look_at(line.replies(replies))
        elif mood < 0.6:
            line.linger(self._rng.uniform(0, 1.5))

    def _look_at(self, replies: list[Json]) -> None:
        """Every error has a kind and a hint, and none is a fault of ours."""
        for reply in replies:
            data = reply.get("error", {"data": {"kind": "none", "hint": "none"}})["data"]
            if data["kind"] == "rpc.internal" or not data["hint"]:
                self.faults.append(json.dumps(reply))
            self.done[f"answer: {data['kind']}"] += 1
