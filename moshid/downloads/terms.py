"""On which terms a job runs: its priority, what that is worth, where bytes may lie. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Literal

from moshid.downloads.manner import AS_IT_IS, Manner

LOW_CONNECTIONS_MAX: Final = 2
"""A job of low priority opens no more, even when it is alone."""

BPS_PER_CONNECTION_MIN: Final = 128 * 1024
"""Under a limit, a connection for less than this is none that is needed: what servers send ahead
into the buffers of many connections would come at once."""


class Priority(StrEnum):
    """How urgent a job is; ``rank`` orders them, as in the ledger."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """1, 0 or -1."""
        return _RANKS[self]

    @property
    def weight(self) -> int:
        """Its part of the line, beside the others' parts."""
        return _WEIGHTS[self]

    @classmethod
    def of_rank(cls, rank: int) -> Priority:
        """The priority of a rank; beyond them, the nearest."""
        return next(p for p in cls if rank >= p.rank or p is cls.LOW)


_RANKS: Final = {Priority.HIGH: 1, Priority.NORMAL: 0, Priority.LOW: -1}
_WEIGHTS: Final = {Priority.HIGH: 16, Priority.NORMAL: 4, Priority.LOW: 1}


class Same(Enum):
    """Stands for a value that is left as it is."""

    SAME = None


SAME: Final = Same.SAME


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller wants changed; a ``limit_bps`` of None lifts the job's limit. ``sources``:
    files and folders, more than before, that may hold bytes of the job's files; ``manner``: how to
    fetch."""

    priority: Priority | None = None
    limit_bps: int | Literal[Same.SAME] | None = SAME
    sources: tuple[str, ...] = ()
    manner: Manner = AS_IT_IS


AS_THEY_ARE: Final = Terms()


def divide(seats: int, weights: Sequence[int]) -> list[int]:
    """``seats`` by weight, heaviest first, at least one each; what does not divide is the first's,
    and so is the want of what the last have beyond their weight."""
    whole = sum(weights)
    parts = [max(1, seats * weight // whole) for weight in weights]
    for index, part in enumerate(parts):
        parts[index] = max(1, part + seats - sum(parts))
    return parts


def connections_for(limit_bps: float | None, most: int) -> int:
    """How many connections a limit is worth, up to ``most``."""
    if limit_bps is None:
        return most
    return max(1, min(most, round(limit_bps / BPS_PER_CONNECTION_MIN)))
