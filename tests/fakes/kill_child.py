"""Processes that run one download and are killed on the way; a nursery forks them, which saves the
imports. ``python -m tests.fakes.kill_child`` reads one order (JSON) a line and answers with one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from moshid.downloads.states import FINISHED, JobState
from tests.fakes.downloads import PARTS, QUICK, make_service, running
from tests.fakes.repos import REPO
from tests.fakes.tripwire import Tripwire, Wire

KILLED: Final = -9
LIFE_LIMIT_S: Final = 40
"""A life that hangs ends by SIGALRM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One life: in which home and cache, against which Hub, in which boot, killed where."""

    home: str
    endpoint: str
    cache: str
    chunk_bytes: int
    boot_id: str = "boot-1"
    wire: Wire | None = None
    watch: bool = True

    @property
    def journal(self) -> Path:
        """Where the tripwire of this life writes."""
        return Path(self.home) / "journal"

    @property
    def told(self) -> Path:
        """Where a life that ended by itself says how: the job, and the steps it took."""
        return Path(self.home) / "told.json"


class Nursery:
    """A process that forks others, one at a time."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.fakes.kill_child"]
        env = os.environ | {"no_proxy": "*", "NO_PROXY": "*"}
        self._process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.killpg(self._process.pid, signal.SIGKILL)  # a life whose Hub has gone would wait for it
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def live(self, order: Order) -> int:
        """One life, from the fork to its end; the exit code, negative for a signal. Blocking."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            for left in (order.told, order.journal):
                left.unlink(missing_ok=True)
            self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


def told(order: Order) -> dict[str, Any]:
    """What a life that ended by itself left: ``job`` and ``steps``."""
    found: dict[str, Any] = json.loads(order.told.read_text())
    return found


@contextmanager
def watched(order: Order) -> Iterator[Tripwire | None]:
    """Armed, if the order says so."""
    if not order.watch:
        yield None
        return
    wire = Tripwire(order.wire, order.journal, Path(order.home) / "ledger.db")
    wire.arm()
    yield wire
    sys.setprofile(None)


async def live(order: Order) -> dict[str, Any]:
    """Start the job, or go on with it, until it is over; the job's last picture."""
    home, cache = Path(order.home), Path(order.cache)
    profiles = {n: replace(p, chunk_bytes=order.chunk_bytes) for n, p in QUICK.items()}
    parts = replace(PARTS, boot_id=lambda: order.boot_id)
    service = make_service(home, order.endpoint, cache, profiles=profiles, parts=parts)
    async with running(service):
        job = next(iter(service.list()), None)
        if job is None or JobState(job.state) in FINISHED:
            job, _created = await service.start(REPO)
        job = await service.wait(job.id)
    return job.to_json()


def _be_born(line: str) -> None:
    order = msgspec.convert(json.loads(line), Order)
    with watched(order) as wire:
        job = asyncio.run(live(order))
    steps = dict(wire.steps) if wire else {}
    order.told.write_text(json.dumps({"job": job, "steps": steps}))


def main() -> None:
    """Fork a life for every line."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.alarm(LIFE_LIMIT_S)
            code = 1
            try:
                _be_born(line)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
