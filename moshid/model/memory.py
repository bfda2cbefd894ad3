"""How much memory there is, and how much this process holds. Asks the system, not MLX."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path("/")


class Limit(NamedTuple):
    """What a control group may hold, and how much more than now."""

    total_bytes: int
    available_bytes: int


def total_bytes(root: Path = ROOT) -> int:
    """The machine's memory, or what this process's control group may have of it."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = group_limit(root)
    return whole if limit is None else min(whole, limit.total_bytes)


def available_bytes(root: Path = ROOT) -> int | None:
    """Memory that can be had without swapping, here and in this process's control group; None
    where the system does not say (macOS)."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    limit = group_limit(root)
    for line in lines:
        if line.startswith("MemAvailable:"):
            whole = int(line.split()[1]) * 1024
            return whole if limit is None else min(whole, limit.available_bytes)
    return None


def group_folders(root: Path = ROOT) -> list[Path]:
    """The folders of this process's control group (version 2) and of those that it is in."""
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    top = root / "sys/fs/cgroup"
    for line in text.splitlines():
        if line.startswith("0::") and ".." not in Path(line[3:]).parts:
            folder = top / line[3:].strip("/")
            return [folder, *(p for p in folder.parents if p.is_relative_to(top))]
    return []


def group_limit(root: Path = ROOT) -> Limit | None:
    """The narrowest limits of the control groups; None without one.

    What files have in memory counts as to be had: the kernel drops it before it kills.
    """
    limits = [limit for f in group_folders(root) if (limit := _limit(f)) is not None]
    if not limits:
        return None
    return Limit(min(x.total_bytes for x in limits), min(x.available_bytes for x in limits))


def _limit(folder: Path) -> Limit | None:
    try:
        most = int((folder / "memory.max").read_text(encoding="ascii"))
        held = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = (folder / "memory.stat").read_text(encoding="ascii")
    except (OSError, ValueError):  # no such group, or one whose limit is "max"
        return None
    counts = dict(line.split(maxsplit=1) for line in stat.splitlines() if " " in line)
    files = sum(int(counts.get(name, 0)) for name in ("active_file", "inactive_file"))
    return Limit(most, min(most, max(0, most - held + files)))


def free_bytes() -> int | None:
    """Memory that could be had about now, on macOS too; None where nobody says."""
    if sys.platform != "darwin":
        return available_bytes()
    try:
        told = subprocess.run(
            ["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5.0, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_vm_stat(told.stdout)


def parse_vm_stat(text: str) -> int | None:
    """Free, inactive, speculative and purgeable pages of macOS's ``vm_stat``, in bytes."""
    page = re.search(r"page size of (\d+) bytes", text)
    pages = [
        re.search(rf"^Pages {kind}: +(\d+)", text, re.MULTILINE)
        for kind in ("free", "inactive", "speculative", "purgeable")
    ]
    if page is None or pages[0] is None:
        return None
    return int(page[1]) * sum(int(found[1]) for found in pages if found is not None)


def resident_bytes() -> int:
    """This process's resident memory; on macOS the highest it has been."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
