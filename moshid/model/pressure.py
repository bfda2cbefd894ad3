"""Memory pressure: how the system says that memory is short, and when that is meant seriously.

Owns the two seams to the system (macOS's pressure level; Linux's PSI and MemAvailable) and the
hysteresis above them. A score of 1 and more is pressure, below 0.5 is calm, 2 and more is an
emergency; in between nothing changes.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moshid.model import memory

LOOK_EVERY_S: Final = 5.0

PRESSURE: Final = 1.0
CALM: Final = 0.5
EMERGENCY: Final = 2.0

FULL_STALL_PERCENT: Final = 10.0
"""PSI: of the last ten seconds, the share in which every task waited for memory."""

AVAILABLE_SHARE: Final = 0.05
"""Of all memory: with less to be had the system begins to swap or to kill."""

AVAILABLE_BYTES_MAX: Final = 2 * 1024**3
"""That is enough for any machine, however large its share would be."""

PATIENCE_LOOKS: Final = 3
PATIENCE_LOOKS_MAX: Final = 24
EMERGENCY_LOOKS: Final = 3
"""So many looks after a model came not even an emergency ends it: loading it, the system was short
of memory for a moment, and the next load would be no better."""

CALM_LOOKS: Final = 120
"""Ten minutes without pressure: what happened before is forgotten."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How short memory is, and what says so."""

    score: float
    told_by: str


UNKNOWN: Final = Sample((PRESSURE + CALM) / 2, "the system did not tell this time")
"""Between calm and pressure: nothing is counted, nothing forgotten."""


class Gauge:
    """Whether pressure has lasted. Each time it says so, it wants to see twice as much next time,
    until there was calm for long: a model that is loaded again at once does not flap."""

    def __init__(self) -> None:
        self._patience = PATIENCE_LOOKS
        self._pressed = 0
        self._calm = 0
        self._looks = 0

    def look(self, sample: Sample) -> bool:
        """Take one sample; whether to give memory back now."""
        self._looks += 1
        if sample.score >= PRESSURE:
            self._pressed += 1
            self._calm = 0
        elif sample.score < CALM:
            self._pressed = 0
            self._calm += 1
            if self._calm >= CALM_LOOKS:
                self._patience = PATIENCE_LOOKS
        emergency = sample.score >= EMERGENCY and self._looks >= EMERGENCY_LOOKS
        return emergency or self._pressed >= self._patience

    def gave(self) -> None:
        """Memory was given back."""
        self._pressed = self._calm = self._looks = 0
        self._patience = min(PATIENCE_LOOKS_MAX, 2 * self._patience)

    def restart(self) -> None:
        """Another model is resident: loading it was pressure enough, so count afresh."""
        self._pressed = self._looks = 0


@dataclass(frozen=True, slots=True)
class System:
    """The system's word on memory: what to ask, and how often. Tests put another in its place."""

    sense: Callable[[], Sample | None]
    """How short memory is; None where nobody tells."""
    oom_kills: Callable[[], int | None]
    """Processes killed for want of memory so far; None where nobody counts."""
    look_every_s: float = LOOK_EVERY_S


def sense(root: Path = Path("/")) -> Sample | None:
    """The system's word on memory, now. ``root`` holds ``proc``."""
    if sys.platform == "darwin":
        return from_level(_darwin_level())
    found = [s for s in (_stall(root), _available(root)) if s is not None]
    return max(found, key=lambda s: s.score, default=None)


def from_level(level: int | None) -> Sample | None:
    """macOS's level: 1 is normal, 2 a warning, 4 critical; a sample, or None if it is unknown."""
    named = {1: ("normal", 0.0), 2: ("warning", PRESSURE), 4: ("critical", EMERGENCY)}
    if level not in named:
        return None
    name, score = named[level]
    return Sample(score, f"the system's memory pressure is {name}")


def from_psi(text: str) -> Sample | None:
    """``/proc/pressure/memory`` as a sample; None without a line ``full``."""
    for line in text.splitlines():
        kind, *pairs = line.split()
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if kind == "full" and "avg10" in values:
            percent = float(values["avg10"])
            told = f"everything waited for memory in {percent:.1f} % of the last ten seconds"
            return Sample(percent / FULL_STALL_PERCENT, told)
    return None


def from_meminfo(text: str, limit: memory.Limit | None = None) -> Sample | None:
    """``/proc/meminfo`` as a sample, within a control group's ``limit``; None if it does not say
    what is available."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if value.split():
            found[name] = 1024 * int(value.split()[0])
    if not found.get("MemTotal") or "MemAvailable" not in found:
        return None
    total, available = found["MemTotal"], found["MemAvailable"]
    if limit is not None:
        total, available = min(total, limit.total_bytes), min(available, limit.available_bytes)
    told = f"{available / 1e9:.1f} GB ({100 * available / total:.1f} %) of the memory can be had"
    short = min(AVAILABLE_SHARE * total, AVAILABLE_BYTES_MAX)
    return Sample(short / max(available, 1), told)


def oom_kills(root: Path = Path("/")) -> int | None:
    """Processes that the kernel has killed for want of memory, here and in this control group;
    None where it does not count them."""
    counts = []
    groups = memory.group_folders(root)[:1] or [root / "sys/fs/cgroup"]
    for place in (root / "proc/vmstat", *(group / "memory.events" for group in groups)):
        for line in (_text(place) or "").splitlines():
            if line.startswith("oom_kill "):
                counts.append(int(line.split()[1]))
    return sum(counts) if counts else None


SYSTEM: Final = System(sense, oom_kills)


def _stall(root: Path) -> Sample | None:
    text = _text(root / "proc/pressure/memory")
    return None if text is None else from_psi(text)


def _available(root: Path) -> Sample | None:
    text = _text(root / "proc/meminfo")
    return None if text is None else from_meminfo(text, memory.group_limit(root))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):  # no such file, or a kernel that was told not to tell
        return None


def _darwin_level() -> int | None:
    level, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    by_name = getattr(ctypes.CDLL(None), "sysctlbyname", None)
    if by_name is None:
        return None
    name = b"kern.memorystatus_vm_pressure_level"
    failed = by_name(name, ctypes.byref(level), ctypes.byref(size), None, ctypes.c_size_t(0))
    return None if failed else level.value
