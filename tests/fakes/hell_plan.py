"""What the link from hell does, and when: its knobs, and the fates drawn from a seed.

Owns the numbers and the dice; opens no socket. Each kind of fault has dice of its own, so that one
that is switched off changes nothing about the others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

MB: Final = 1_000_000


class Wrong(StrEnum):
    """An answer that is not what was asked for."""

    WHOLE_200 = "200 and the whole file"
    OTHER_RANGE = "206 with another range"
    SHORT = "206 with half of the bytes"
    GZIP = "206, encoded"
    PORTAL = "200 and a page of HTML"
    DENIED = "403 with a body"


ANYWHERE: Final = (Wrong.PORTAL, Wrong.DENIED)
"""What a box on the way answers, to whichever request."""


class Blow(StrEnum):
    """What happens to a connection in mid-body."""

    RESET = "cut by RST"
    FIN = "cut by FIN"
    SILENCE = "stalled for ever"
    DRIP = "stalled to a drip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """A fault of the time: from ``first_s`` after the first request on, about every ``every_s``
    (half to one and a half of it, by the dice; never again, if 0), for ``for_s``."""

    first_s: float
    every_s: float = 0.0
    for_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hell:
    """The link and its faults; all faults are off unless named.

    ``capacity_bps``: what it carries, bytes a second, over all connections; ``connection_bps``:
    what one may have of it; ``latency_s``: from a request to its answer, twice on a new connection.
    ``cut_bytes``: after so many bytes (least, most) over the link the connection that carries them
    is cut; ``stall_bytes``: likewise stalled, every third time before the first byte of an answer;
    ``wrong_share``: of all answers; ``flip_share``: of all ranges, one byte is wrong on arrival;
    ``lost_host_share``: of the signed URLs, those on a host whose name resolves to nothing.
    ``offline``: all connections are reset, new ones refused; ``black_hole``: all fall silent for
    ever, and so do those that begin meanwhile.
    """

    seed: int = 0
    capacity_bps: float = 30e6
    connection_bps: float | None = None
    latency_s: float = 0.02
    cut_bytes: tuple[int, int] | None = None
    stall_bytes: int | None = None
    drip_s: float = 9.0
    wrong_share: float = 0.0
    flip_share: float = 0.0
    lost_host_share: float = 0.0
    url_ttl_s: float = 3600.0
    too_many: Burst | None = None
    unavailable: Burst | None = None
    offline: Burst | None = None
    black_hole: Burst | None = None


ALONE: Final = {
    "cuts": Hell(cut_bytes=(5 * MB, 20 * MB)),
    "stalls": Hell(stall_bytes=30 * MB),
    "wrong answers": Hell(wrong_share=0.02),
    "URLs of 4 s": Hell(url_ttl_s=4.0),
    "429": Hell(too_many=Burst(first_s=3.0, every_s=12.0, for_s=2.0)),
    "503": Hell(unavailable=Burst(first_s=5.0, every_s=12.0, for_s=1.0)),
    "offline": Hell(offline=Burst(first_s=4.0, for_s=10.0)),
    "black hole": Hell(black_hole=Burst(first_s=4.0, for_s=10.0)),
    "lost hosts": Hell(lost_host_share=0.2),
}
"""Issue 3's faults, one by one. The hour offline is 10 s here (``bench_faults`` can stretch it);
URLs live 4 s, not 20, so that some expire within a run of 10."""


def together(*, offline_s: float = 10.0) -> Hell:
    """All of them at once."""
    return Hell(
        cut_bytes=(5 * MB, 20 * MB),
        stall_bytes=30 * MB,
        wrong_share=0.02,
        lost_host_share=0.05,
        url_ttl_s=20.0,
        too_many=Burst(first_s=3.0, every_s=20.0, for_s=2.0),
        unavailable=Burst(first_s=8.0, every_s=20.0, for_s=1.0),
        offline=Burst(first_s=6.0, for_s=offline_s),
        black_hole=Burst(first_s=offline_s + 12.0, for_s=3.0),
    )


def shrunk(hell: Hell, factor: float) -> Hell:
    """The same for a file that is so many times smaller: shorter distances in bytes."""
    least, most = hell.cut_bytes or (0, 0)
    return replace(
        hell,
        cut_bytes=hell.cut_bytes and (int(least / factor), int(most / factor)),
        stall_bytes=hell.stall_bytes and int(hell.stall_bytes / factor),
    )


class Fates:
    """The dice. Asked in the order in which things happen on the link."""

    def __init__(self, hell: Hell) -> None:
        self._hell = hell
        self._dice = {
            k: random.Random(f"{hell.seed} {k}") for k in ("cut", "wrong", "flip", "host")
        }
        self._carried_bytes = 0
        self._stalls = 0
        self._cut_at = self._next_cut()
        self._stall_at: float = hell.stall_bytes or math.inf
        self._stall_next_answer = False

    def _next_cut(self) -> float:
        if self._hell.cut_bytes is None:
            return math.inf
        return self._carried_bytes + self._dice["cut"].uniform(*self._hell.cut_bytes)

    def carried(self, count_bytes: int) -> Blow | None:
        """The link has carried so many more bytes of an answer: what that answer now suffers."""
        self._carried_bytes += count_bytes
        if self._carried_bytes >= self._cut_at:
            self._cut_at = self._next_cut()
            return self._dice["cut"].choice((Blow.RESET, Blow.FIN))
        if self._carried_bytes >= self._stall_at:
            self._stall_at += self._hell.stall_bytes or math.inf
            self._stalls += 1
            if self._stalls % 3:
                return Blow.SILENCE if self._stalls % 2 else Blow.DRIP
            self._stall_next_answer = True
        return None

    def stalls_before_answer(self) -> bool:
        """Whether this request gets no answer at all."""
        stalls, self._stall_next_answer = self._stall_next_answer, False
        return stalls

    def wrong(self, kinds: tuple[Wrong, ...]) -> Wrong | None:
        """What is wrong with this answer, if anything."""
        dice = self._dice["wrong"]
        return dice.choice(kinds) if dice.random() < self._hell.wrong_share else None

    def flipped(self, start: int, stop: int) -> int:
        """Which byte of this range is wrong on arrival; -1: none."""
        dice = self._dice["flip"]
        at = dice.randrange(start, stop)
        return at if dice.random() < self._hell.flip_share else -1

    def host_lost(self) -> bool:
        """Whether this signed URL leads to a host that nobody knows."""
        return self._dice["host"].random() < self._hell.lost_host_share

    def times(self, name: str, burst: Burst | None) -> Iterator[tuple[float, float]]:
        """When a burst begins and ends, in seconds after the first request."""
        if burst is None:
            return
        dice, at_s = random.Random(f"{self._hell.seed} {name}"), burst.first_s
        while True:
            yield at_s, at_s + burst.for_s
            if not burst.every_s:
                return
            at_s += burst.for_s + burst.every_s * dice.uniform(0.5, 1.5)
