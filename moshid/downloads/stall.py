"""When a connection counts as stalled: early on a line that moves, late on one that is slow.

Pure, but for the clock. Dropping a stalled connection costs no bytes, only a new request; waiting
for one costs the line. So the limit follows the gaps that this line was seen to get over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

DRIP_BYTES: Final = 4096
"""Less than this within the limit is no progress: a drip is a stall."""

GAPS: Final = 4.0
"""So many times the longest gap of late is a stall."""

HALF_LIFE_S: Final = 30.0
"""A gap is forgotten by half in so long."""

HURRY_HALF_LIFE_S: Final = 2.0
"""Likewise by who is in a hurry."""

SILENT_GAPS: Final = 2.0

BODY_S: Final = 2.0
FIRST_BYTE_S: Final = 3.0
"""The shortest limits, within a body and before it."""

SILENT_S: Final = 0.5
"""Who is silent for so long gives up its seat: another connection may use the line meanwhile."""

HURRY_S: Final = 0.1
HURRY_GAPS: Final = 3.0
"""The shortest limit when nothing is left to do for others, or nothing comes for anybody, on a line
whose gaps are known."""

DEAD_S: Final = 1.0
"""Nothing has moved for so long, on any connection: the line is dead."""

DEAD_SHARE: Final = 0.025
"""On a dead line who asks is given up after such a part of the time that nothing has moved for: the
longer it lasts, the more the line may have changed meanwhile."""


class Limit:
    """How long nothing may come. Between ``least_s`` and ``most_s``: ``GAPS`` times the longest gap
    of late that ended well, and twice as long after each stall in a row."""

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = min(least_s, most_s)
        self._most_s = most_s
        self._gap_s = 0.0
        self._recent_gap_s = 0.0
        self._seen_s = 0.0
        self._boost = 1
        self._boosted_s = 0.0

    def limit_s(self) -> float:
        """The limit now."""
        return min(self._most_s, self._boost * max(self._least_s, GAPS * self._gap_s))

    def hurry_s(self) -> float:
        """The limit when all others have nothing left to do: the first few stalls in a row do not
        make it longer. The usual one on a line that nobody knows yet."""
        if not self._gap_s:
            return self.limit_s()
        hurry_s = max(HURRY_S, HURRY_GAPS * self._recent_gap_s)
        return min(self.limit_s(), hurry_s * max(1, self._boost // 4))

    def silence_s(self) -> float:
        """How long nothing may come before others may use the line."""
        return max(SILENT_S, SILENT_GAPS * self._gap_s)

    def moved(self, gap_s: float, now_s: float) -> None:
        """After a gap, there was progress."""
        ago_s, self._seen_s, self._boost = now_s - self._seen_s, now_s, 1
        self._gap_s = max(gap_s, self._gap_s * 0.5 ** (ago_s / HALF_LIFE_S))
        self._recent_gap_s = max(gap_s, self._recent_gap_s * 0.5 ** (ago_s / HURRY_HALF_LIFE_S))

    def stalled(self, since_s: float, now_s: float) -> None:
        """The limit was reached: nothing had come since then. Many connections that fall silent
        together are one stall: the others were not given the longer time yet."""
        if since_s >= self._boosted_s and self.limit_s() < self._most_s:
            self._boost, self._boosted_s = self._boost * 2, now_s


@dataclass(slots=True)
class Stalls:
    """The limits of one job's line. ``most_s``: the profile's; ``clock``: in seconds."""

    most_s: float
    clock: Callable[[], float]
    first_byte: Limit = field(init=False)
    body: Limit = field(init=False)
    moved_s: float = field(init=False)
    """When something moved last, on any connection."""

    def __post_init__(self) -> None:
        self.first_byte = Limit(FIRST_BYTE_S, self.most_s)
        self.body = Limit(BODY_S, self.most_s)
        self.moved_s = self.clock()

    @property
    def dead_s(self) -> float:
        """How long the line has been dead; 0: it is not."""
        silence_s = self.clock() - self.moved_s
        return silence_s if silence_s >= DEAD_S else 0.0

    def watch(self, in_a_hurry: Callable[[], bool]) -> Watch:
        """Watch a connection that has just asked; ``in_a_hurry``: others wait for it alone."""
        return Watch(self, in_a_hurry, self.first_byte, self.clock())


@dataclass(slots=True)
class Watch:
    """Watches one connection: first for its answer, then for the body. ``listening``: nobody but
    the line can be to blame for silence."""

    stalls: Stalls
    in_a_hurry: Callable[[], bool]
    limit: Limit
    since_s: float
    fresh_bytes: int = 0
    listening: bool = True
    _rested_s: float = field(init=False, default=0.0)
    asked_dead_s: float = field(init=False)
    """How long the line had been dead when it asked: what was sent then is lost, though the line be
    back by now."""

    def __post_init__(self) -> None:
        self.asked_dead_s = self.stalls.dead_s

    @property
    def is_silent(self) -> bool:
        """Nothing has come for a while; on a dead line, another may be luckier soon."""
        dead = self.stalls.dead_s or self.asked_dead_s
        return self.listening and self._silence_s > (HURRY_S if dead else self.limit.silence_s())

    @property
    def is_over(self) -> bool:
        """It counts as stalled."""
        return self.listening and self._silence_s >= self._limit_s()

    def _limit_s(self) -> float:
        dead_s = max(self.stalls.dead_s, self.asked_dead_s)
        if not dead_s and not self.in_a_hurry():
            return self.limit.limit_s()
        return min(self.limit.limit_s(), max(self.limit.hurry_s(), DEAD_SHARE * dead_s))

    @property
    def _silence_s(self) -> float:
        return self.stalls.clock() - self.since_s

    def answered(self) -> None:
        """The headers are there."""
        self._moved()
        self.limit, self.asked_dead_s = self.stalls.body, 0.0

    def took(self, count_bytes: int) -> None:
        """Bytes have come; a few of them are no progress."""
        self.fresh_bytes += count_bytes
        if self.fresh_bytes >= DRIP_BYTES:
            self._moved()

    def rest(self) -> None:
        """Nobody listens from now on."""
        self._rested_s, self.listening = self.stalls.clock(), False

    def listen(self) -> None:
        """Somebody does again. What has come meanwhile is yet to be seen: nobody can say that the
        line was dead."""
        now_s = self.stalls.clock()
        self.since_s += now_s - self._rested_s
        self.stalls.moved_s = max(self.stalls.moved_s, now_s)
        self.listening = True

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nobody listens meanwhile."""
        self.rest()
        try:
            yield
        finally:
            self.listen()

    def stalled(self) -> None:
        """It was given up. Where nothing comes at all, patience brings nothing."""
        if not self.stalls.dead_s:
            self.limit.stalled(self.since_s, self.stalls.clock())

    def forgive(self, seconds: float) -> None:
        """Nobody could have heard anything for so long."""
        self.since_s += seconds

    def _moved(self) -> None:
        now_s = self.stalls.clock()
        self.limit.moved(now_s - self.since_s, now_s)
        self.since_s, self.fresh_bytes, self.stalls.moved_s = now_s, 0, now_s
