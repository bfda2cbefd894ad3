"""Which quality ``auto`` takes, and why; and the memory of what was measured on this machine.

Pure but for one small file. A quality has to fit into the machine's memory and, when it is to be
loaded now, into what is free; and one that was measured here and did not keep up with the frames is
passed over for the next lower one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from moshid.model.engine import FRAME_BUDGET_MS
from moshid.model.machine import Machine
from moshid.model.qualities import size_as

BESIDES_SHARE: Final = 0.14
"""What a model takes besides its weights, in shares of bf16's weights: keys and values of 3,000
frames are a tenth of the 7B's, the rest is what MLX works with."""

MEASURED_STEPS: Final = 25
"""Two seconds of talk."""

ALLOWED_MS: Final = 0.9 * FRAME_BUDGET_MS
"""What a step may take: codec, sound and other programs want a little of the frame, too."""

SIZE_TOLERANCE: Final = 0.01
"""Weights of a size that differs by less are the same: a file is its header larger than its
tensors, and what is quantised at load is estimated."""

TOO_SLOW_HOLDS_S: Final = 7 * 24 * 3600.0
"""Then it is measured once more: one bad moment should not decide for ever."""


class Verdict(msgspec.Struct, frozen=True):
    """A measurement of ``steps`` real steps of weights of ``size_bytes``. ``p95_ms``: as it is with
    a full key-value cache."""

    p95_ms: float
    steps: int
    size_bytes: int

    @property
    def keeps_up(self) -> bool:
        """Whether a step is done in 0.9 of its frame's 80 ms."""
        return self.p95_ms <= ALLOWED_MS


class _Noted(Verdict, frozen=True, kw_only=True):
    """As it stands in the file, with the time, in seconds of the epoch."""

    noted_at_s: float


class Chosen(msgspec.Struct, frozen=True):
    """What ``auto`` took, and of which qualities: when others can be had, it chooses anew."""

    quality: str
    among: list[str]


class _Remembered(msgspec.Struct):
    """The file: valid for one machine and one version of MLX."""

    machine: Machine
    verdicts: dict[str, _Noted] = {}
    chosen: dict[str, Chosen] = {}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quality that could be had: ``size_bytes`` of its weights in memory, where known."""

    quality: str
    size_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        """With all that it takes besides."""
        if self.size_bytes is None:
            return 0
        besides = BESIDES_SHARE * size_as("bf16", self.size_bytes, of=self.quality)
        return self.size_bytes + round(besides)


@dataclass(frozen=True, slots=True)
class Decision:
    """What ``auto`` takes, and why, as a sentence without a full stop; ``lasting``: it does not
    hang on the free memory of the moment, and is to be remembered for its candidates, ``among``."""

    quality: str
    why: str
    among: tuple[str, ...] = ()
    lasting: bool = False


VerdictOf = Callable[[str, int | None], Verdict | None]
"""``(quality, size in bytes)`` → what was measured here."""


def decide(
    candidates: Sequence[Candidate],
    machine: Machine,
    *,
    where: str,
    free_bytes: int | None = None,
    verdict_of: VerdictOf = lambda _quality, _size_bytes: None,
    advice: str | None = None,
    before: Chosen | None = None,
) -> Decision:
    """The best of ``candidates`` (best first, at least one) that fits and keeps up, else the last.

    ``where`` they are, for the sentence; ``free_bytes``: what can be had now, None: not asked;
    ``advice``: what could be done when none of them does. What it took ``before`` of the same
    candidates stands, where the system makes room for a program (Metal's machines), for as long as
    its weights fit into what is free: memory comes and goes.
    """
    among = tuple(c.quality for c in candidates)
    kept = before.quality if before is not None and tuple(before.among) == among else None
    makes_room = machine.working_set_bytes is not None
    passed: list[str] = []
    for c in candidates:
        asked_bytes = free_bytes
        if c.quality == kept and makes_room and (c.size_bytes or 0) <= (free_bytes or 0):
            asked_bytes = None
        reason = _against(c, machine, asked_bytes, verdict_of)
        if reason is None:
            why = _sentence(c, where, machine, passed, verdict_of)
            if free_bytes is not None and asked_bytes is None and c.needed_bytes > free_bytes:
                why += f"; {free_bytes / 1e9:.1f} GB are free now, but it was taken here before"
            at_ease = (x for x in candidates if _against(x, machine, None, verdict_of) is None)
            return Decision(c.quality, why, among, lasting=next(at_ease, None) == c)
        passed.append(reason + (", though it was taken here before" if c.quality == kept else ""))
    last = candidates[-1].quality
    parts = [f"{last} is the smallest {where}, though {passed[0]}", *passed[1:]]
    return Decision(last, "; ".join([*parts, advice] if advice else parts))


def _against(
    c: Candidate, machine: Machine, free_bytes: int | None, verdict_of: VerdictOf
) -> str | None:
    needed = f"{c.quality} needs {c.needed_bytes / 1e9:.1f} GB"
    if c.needed_bytes > machine.budget_bytes:
        return f"{needed}, over {machine.budget_text}"
    if free_bytes is not None and c.needed_bytes > free_bytes:
        return f"{needed}, {free_bytes / 1e9:.1f} GB are free"
    verdict = verdict_of(c.quality, c.size_bytes)
    if verdict is not None and not verdict.keeps_up:
        return f"{c.quality} was measured here: {measured(verdict)}"
    return None


def _sentence(
    c: Candidate, where: str, machine: Machine, passed: Sequence[str], verdict_of: VerdictOf
) -> str:
    parts = [f"{c.quality} is the best {where} that suits this machine"]
    if c.size_bytes is not None:
        parts[0] += f": it needs {c.needed_bytes / 1e9:.1f} GB of {machine.budget_text}"
    if (verdict := verdict_of(c.quality, c.size_bytes)) is not None:
        parts.append(f"measured here: {measured(verdict)}")
    return "; ".join([*parts, *passed])


def measured(verdict: Verdict) -> str:
    """A verdict in words."""
    side = "within" if verdict.keeps_up else "over"
    step = f"{verdict.p95_ms:.0f} ms a step (p95, full cache)"
    return f"{step}, {side} {ALLOWED_MS:.0f} of the {FRAME_BUDGET_MS:.0f} ms of a frame"


class Verdicts:
    """What was measured on this machine, kept in one file. Blocking."""

    def __init__(
        self,
        path: Path,
        machine: Callable[[], Machine],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``clock``: seconds of the epoch."""
        self._path = path
        self._machine = machine
        self._clock = clock

    def of(self, repo: str, quality: str, size_bytes: int | None) -> Verdict | None:
        """The verdict on a repository's quality, if its weights are still of that size and it has
        not lapsed."""
        noted = self._read().verdicts.get(f"{repo} {quality}")
        if noted is None or not _is_about(size_bytes, noted.size_bytes):
            return None
        age_s = self._clock() - noted.noted_at_s
        if not noted.keeps_up and not 0 <= age_s < TOO_SLOW_HOLDS_S:
            return None  # also when the clock was set back
        return Verdict(noted.p95_ms, noted.steps, noted.size_bytes)

    def chosen(self, name: str) -> Chosen | None:
        """What ``auto`` took of the model ``name`` here, when memory was no hindrance."""
        return self._read().chosen.get(name)

    def note_chosen(self, name: str, chosen: Chosen) -> None:
        """Remember it, in place of an earlier one.

        Raises:
            OSError: the file cannot be written.
        """
        remembered = self._read()
        if remembered.chosen.get(name) != chosen:
            remembered.chosen[name] = chosen
            self._write(remembered)

    def note(self, repo: str, quality: str, verdict: Verdict) -> None:
        """Remember it, in place of an earlier one.

        Raises:
            OSError: the file cannot be written.
        """
        remembered = self._read()
        remembered.verdicts[f"{repo} {quality}"] = _Noted(
            verdict.p95_ms, verdict.steps, verdict.size_bytes, noted_at_s=self._clock()
        )
        self._write(remembered)

    def _write(self, remembered: _Remembered) -> None:
        text = msgspec.json.format(msgspec.json.encode(remembered), indent=2)
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
        try:
            with new.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        finally:
            new.unlink(missing_ok=True)

    def _read(self) -> _Remembered:
        """What the file says; nothing, when it is another machine's, or no file of ours."""
        machine = self._machine()
        with contextlib.suppress(OSError, msgspec.DecodeError):
            content = self._path.read_bytes() if self._path.is_file() else b""  # a FIFO would wait
            remembered = msgspec.json.decode(content, type=_Remembered)
            if remembered.machine.is_as_fast_as(machine):
                return remembered
        return _Remembered(machine)


def _is_about(asked_bytes: int | None, measured_bytes: int) -> bool:
    if asked_bytes is None:
        return True
    return abs(asked_bytes - measured_bytes) <= SIZE_TOLERANCE * measured_bytes
