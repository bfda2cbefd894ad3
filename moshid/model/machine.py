"""What this machine is, as far as the choice of a quality depends on it. Imports no mlx."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from moshid.model import memory

log = logging.getLogger(__name__)

MEMORY_SHARE: Final = 0.5
"""Without Metal's word, a model may take this share of the machine's memory: the rest is the
system's and other programs'."""

WORKING_SET_SHARE: Final = 0.8
"""Of what Metal recommends: machines whose whole working set was wired have frozen."""

_PROBE_LIMIT_S: Final = 20.0
_PROBE_AGAIN_S: Final = 60.0
"""After a failed probe, so that not each call waits for the next one."""


class Machine(msgspec.Struct, frozen=True):
    """The processor, the memory, and MLX."""

    processor: str
    cores: int
    total_bytes: int
    mlx: str
    working_set_bytes: int | None = None

    def is_as_fast_as(self, other: Machine) -> bool:
        """Whether what was measured on one holds for the other: they are the same, but for the
        working set, which a setting of the system changes, and which may be unknown for a while."""
        mine, theirs = (msgspec.structs.replace(m, working_set_bytes=None) for m in (self, other))
        return mine == theirs

    @property
    def budget_bytes(self) -> int:
        """What a model may take in all."""
        if self.working_set_bytes is not None:
            return round(WORKING_SET_SHARE * self.working_set_bytes)
        return round(MEMORY_SHARE * self.total_bytes)

    @property
    def budget_text(self) -> str:
        """The budget, and where it comes from."""
        share, whole, of = MEMORY_SHARE, self.total_bytes, "this machine's"
        if self.working_set_bytes is not None:
            share, whole, of = WORKING_SET_SHARE, self.working_set_bytes, "MLX's recommended"
        return f"{self.budget_bytes / 1e9:.1f} GB, {share:.0%} of {of} {whole / 1e9:.1f} GB"


class WorkingSet:
    """What MLX recommends to use of the memory: asked until it is known, then no more. Threads may
    share it."""

    def __init__(
        self, probe: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``probe``: what ``working_set`` prints; ``clock``: seconds."""
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._known: tuple[int | None] | None = None
        self._ask_at_s = -math.inf

    def ask(self) -> int | None:
        """In bytes; None: there is no Metal, or nobody knows at the moment. Blocks."""
        with self._lock:
            if self._known is None and self._clock() >= self._ask_at_s:
                try:
                    self._known = (_read_answer(self._probe()),)
                except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as e:
                    log.warning("MLX does not say what memory it recommends: %s", e)
                    self._ask_at_s = self._clock() + _PROBE_AGAIN_S
            return None if self._known is None else self._known[0]


def _read_answer(text: str) -> int | None:
    """Raises ValueError, KeyError or TypeError when it makes no sense."""
    told = json.loads(text)["working_set_bytes"]
    if told is not None and not (isinstance(told, int) and told > 0):
        raise ValueError(f"a working set of {told} bytes")
    return told


def run_probe() -> str:
    """What ``working_set`` prints.

    Raises:
        OSError, SubprocessError: it cannot be run, or fails.
    """
    command = [sys.executable, "-m", "moshid.model.working_set"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_PROBE_LIMIT_S,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


@functools.cache
def _processor() -> str:
    """Its name: ``Apple M2``."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5.0, check=True)
        except (OSError, subprocess.SubprocessError):
            return platform.machine()
        return done.stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


_working_set: Final = WorkingSet(run_probe)


def here() -> Machine:
    """This machine. On macOS it blocks for a moment at first."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        total_bytes=memory.total_bytes(),
        mlx=metadata.version("mlx"),
        working_set_bytes=_working_set.ask() if sys.platform == "darwin" else None,
    )
