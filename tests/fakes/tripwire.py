"""Watches what this process does, step by step, and kills it by SIGKILL at one of them.

The steps are functions, Python's or C's, seen through the interpreter's profiling hook: the code
under test knows nothing of it. A journal, which outlives the process, tells what a power cut would
have taken along: writes that no sync followed, renames that no sync of their folder followed.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import sqlite3
import sys
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FrameType
from typing import Any, Final

SEAMS: Final = frozenset(
    {
        "Partial.open",
        "Partial.write",
        "Partial.sync",
        "Ledger.add_job",
        "Ledger.add_want",
        "Ledger.close",
        "Ledger.record",
        "Ledger.set_blob",
        "Ledger.set_checked",
        "Ledger.set_file_state",
        "Ledger.set_state",
        "Ledger.resolve_want",
        "Cache.publish",
        "Cache.link",
        "Cache.write_ref",
        "sync_folder",
        "hash_range",
    }
)
"""Python functions that are steps, by qualified name. Every download takes them all."""

SYSTEM: Final = frozenset({"fdatasync", "replace", "symlink"})
"""System calls that are steps, as ``os`` names them; ``execute`` is any SQLite statement."""

WRITES: Final = frozenset({"pwrite", "pwritev"})
WRITERS: Final = frozenset({"Partial.write", "Tally._write"})
"""Who may write by position: the journal would miss what others write."""


@dataclass(frozen=True, slots=True)
class Wire:
    """Kill right before, or right after, the ``nth`` (from 1) call of ``step``."""

    step: str
    nth: int
    before: bool


class Tripwire:
    """The hook. Without a ``wire`` it only counts; ``ledger``: whose WAL the journal follows."""

    def __init__(self, wire: Wire | None, journal: Path, ledger: Path) -> None:
        self.steps: Counter[str] = Counter()
        self._wire = wire
        self._wal = ledger.with_name(ledger.name + "-wal")
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._numbers = itertools.count()
        self._ended: Counter[str] = Counter()
        self._writing: dict[FrameType, int] = {}
        self._syncing: dict[FrameType, list[int]] = {}
        self._written: dict[int, set[int]] = defaultdict(set)

    def arm(self) -> None:
        """From now on, in this thread and in all that begin."""
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in ("call", "return"):
            if frame.f_code.co_qualname in SEAMS:
                self._step(frame.f_code.co_qualname, frame, begins=event == "call")
        elif isinstance(arg, BuiltinFunctionType):
            if arg.__name__ in WRITES and frame.f_code.co_qualname not in WRITERS:
                raise AssertionError(f"{frame.f_code.co_qualname} writes behind the journal's back")
            if (name := _system_step(arg)) is not None:
                self._step(name, frame, begins=event == "c_call")

    def _step(self, step: str, frame: FrameType, *, begins: bool) -> None:
        counts = self.steps if begins else self._ended
        counts[step] += 1
        note = getattr(self, f"_{'begins' if begins else 'ends'}_{_word(step)}", None)
        if note is not None and begins:
            note(frame)
        if self._wire == Wire(step, counts[step], begins):
            os.kill(os.getpid(), signal.SIGKILL)
        if note is not None and not begins:
            note(frame)

    def _begins_partial_write(self, frame: FrameType) -> None:
        at = frame.f_locals
        size = sum(memoryview(b).nbytes for b in at["buffers"])
        old = os.pread(at["self"].fd, size, at["offset"])
        self._writing[frame] = number = next(self._numbers)
        self._note(
            "write", id=number, path=str(at["self"].path), offset=at["offset"], size=size,
            old=base64.b64encode(old).decode(),
        )  # fmt: skip

    def _ends_partial_write(self, frame: FrameType) -> None:
        self._written[frame.f_locals["self"].fd].add(self._writing.pop(frame))

    def _begins_partial_sync(self, frame: FrameType) -> None:
        self._syncing[frame] = list(self._written[frame.f_locals["self"].fd])

    def _ends_partial_sync(self, frame: FrameType) -> None:
        self._note("synced", ids=self._syncing.pop(frame))

    def _begins_replace(self, frame: FrameType) -> None:
        at = frame.f_locals  # of Path.replace, or of a function with the same names
        if "self" in at and "target" in at:
            fresh = not os.path.lexists(at["target"])
            self._note("renamed", old=str(at["self"]), new=str(at["target"]), fresh=fresh)

    def _ends_sync_folder(self, frame: FrameType) -> None:
        self._note("folder", path=str(frame.f_locals["folder"]))

    def _ends_execute(self, _frame: FrameType) -> None:
        if self._wal.exists():
            with self._wal.open("rb") as wal:
                header = base64.b64encode(wal.read(32)).decode()
                self._note("wal", size=os.fstat(wal.fileno()).st_size, header=header)

    def _note(self, kind: str, **facts: object) -> None:
        os.write(self._journal, json.dumps({"kind": kind} | facts).encode() + b"\n")


def _word(step: str) -> str:
    return step.replace(".", "_").lower()


def _system_step(function: BuiltinFunctionType) -> str | None:
    name = function.__name__
    if name in SYSTEM and function.__module__ == "posix":
        return name
    if name == "execute" and isinstance(function.__self__, sqlite3.Connection):
        return name
    return None
