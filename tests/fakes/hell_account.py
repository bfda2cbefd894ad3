"""What went over the link from hell, told from its own side: bytes, twice-sent bytes, lost time.

**The goodput that the link's capacity allows outside its outages**: the capacity, integrated from
the first request to the last byte of the file, over the time in which somebody could be served.
Not counted are offline spells, and those parts of a burst of 429 or 503 in which no answer was
under way: the server turns everybody away then, up to the moment that its ``Retry-After`` named.
What answers are under way during a burst could use the link, so that time counts. Everything else
counts: stalled connections, cuts, round trips, URLs to be renewed, waiting after the outage's end.

Owns the sums; the hub tells it what happens.
"""

from __future__ import annotations

import bisect
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

SAMPLE_S: Final = 0.1


class Coverage:
    """Which bytes of the file were sent at least once."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.count_bytes = 0

    def add(self, start: int, stop: int) -> int:
        """Returns how many of these bytes were new."""
        i = bisect.bisect_left(self._stops, start)
        j = bisect.bisect_right(self._starts, stop)
        known = sum(
            max(0, min(stop, b) - max(start, a))
            for a, b in zip(self._starts[i:j], self._stops[i:j], strict=True)
        )
        if i < j:
            self._starts[i:j], self._stops[i:j] = (
                [min(start, self._starts[i])],
                [max(stop, self._stops[j - 1])],
            )
        else:
            self._starts.insert(i, start)
            self._stops.insert(i, stop)
        fresh = stop - start - known
        self.count_bytes += fresh
        return fresh


@dataclass(slots=True)
class Sums:
    """Sums since the first request. ``idle_s``: up, and no request was there that could be served;
    of that, ``idle_stalled_s``: the client had stalled connections open."""

    at_s: float = 0.0
    allowed_bytes: float = 0.0
    outage_s: float = 0.0
    idle_s: float = 0.0
    idle_stalled_s: float = 0.0
    file_bytes: int = 0
    twice_bytes: int = 0
    junk_bytes: int = 0


@dataclass(slots=True)
class Account:
    """The sums of one run. ``flights``: requests that are being served; ``stalled``: those which
    never will be."""

    size: int
    capacity_bps: float
    connection_bps: float | None = None
    clock: Callable[[], float] = time.monotonic
    sums: Sums = field(default_factory=Sums)
    last: Sums = field(default_factory=Sums)
    """The sums when the file's last byte yet was sent."""
    counts: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    """Time, bytes of the file sent at least once, and sent at all; ``SAMPLE_S`` apart."""
    outages: list[tuple[str, float, float]] = field(default_factory=list)
    downs: int = 0
    flights: int = 0
    stalled: int = 0
    _coverage: Coverage = field(default_factory=Coverage)
    _began_s: float | None = None
    _shut_until_s: float = 0.0

    @property
    def now_s(self) -> float:
        """Seconds since the first request; 0 before it."""
        return 0.0 if self._began_s is None else self.clock() - self._began_s

    def begin(self) -> None:
        """There is a request: time begins with the first."""
        if self._began_s is None:
            self._began_s = self.clock()

    def shut(self, until_s: float) -> None:
        """The server turns everybody away until then."""
        self._advance()
        self._shut_until_s = max(self._shut_until_s, until_s)

    @contextmanager
    def down(self) -> Iterator[None]:
        """The line is down."""
        self._advance()
        self.downs += 1
        try:
            yield
        finally:
            self._advance()
            self.downs -= 1

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A request is being served."""
        self._advance()
        self.flights += 1
        try:
            yield
        finally:
            self._advance()
            self.flights -= 1

    @contextmanager
    def stalling(self) -> Iterator[None]:
        """A client waits for what never comes."""
        self._advance()
        self.stalled += 1
        try:
            yield
        finally:
            self._advance()
            self.stalled -= 1

    def sent(self, start: int, stop: int) -> None:
        """These bytes of the file were given to the client."""
        self._advance()
        fresh = self._coverage.add(start, stop)
        self.sums.file_bytes += stop - start
        self.sums.twice_bytes += stop - start - fresh
        self.last = Sums(**{n: getattr(self.sums, n) for n in Sums.__slots__})
        if not self.samples or self.now_s - self.samples[-1][0] >= SAMPLE_S:
            self.samples.append((self.now_s, self._coverage.count_bytes, self.sums.file_bytes))

    def junk(self, count_bytes: int) -> None:
        """Bytes of an answer that is none."""
        self._advance()
        self.sums.junk_bytes += count_bytes

    def _advance(self) -> None:
        now_s, sums = self.now_s, self.sums
        if sums.at_s < self._shut_until_s < now_s:
            self._pass(self._shut_until_s)
        self._pass(now_s)

    def _pass(self, until_s: float) -> None:
        sums = self.sums
        span_s = until_s - sums.at_s
        shut = sums.at_s < self._shut_until_s
        sums.at_s = until_s
        if self.downs or (shut and not self.flights):
            sums.outage_s += span_s
            return
        rate_bps = self.capacity_bps
        if shut and self.connection_bps:
            rate_bps = min(rate_bps, self.flights * self.connection_bps)
        sums.allowed_bytes += rate_bps * span_s
        if not self.flights:
            sums.idle_s += span_s
            sums.idle_stalled_s += span_s if self.stalled else 0.0

    def report(self) -> dict[str, Any]:
        """All of it, as of the file's last byte; shares are of 1."""
        self._advance()
        end, covered = self.last, self._coverage.count_bytes
        allowed_bytes = max(1.0, end.allowed_bytes)
        return {
            "size": self.size,
            "covered_bytes": covered,
            "seconds": end.at_s,
            "outage_s": end.outage_s,
            "idle_s": end.idle_s,
            "idle_stalled_s": end.idle_stalled_s,
            "file_bytes": end.file_bytes,
            "twice_bytes": end.twice_bytes,
            "junk_bytes": end.junk_bytes,
            "allowed_bytes": end.allowed_bytes,
            "goodput_share": covered / allowed_bytes,
            "carried_share": (end.file_bytes + end.junk_bytes) / allowed_bytes,
            "twice_share": end.twice_bytes / self.size,
            "counts": dict(self.counts),
            "outages": self.outages,
            "samples": self.samples,
        }
