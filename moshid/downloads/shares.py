"""Who may read how much next, under limits: token buckets, and turns in proportion to weights.

Pure: times are given. A bucket is paid after the purchase: whoever finds it not in debt takes a
piece, and the debt has to be worked off before the next. So over any time no more comes than the
limit allows and two pieces. Between jobs, start-time fair queueing: each has a tag that a piece
moves on by its size over the job's weight, and the lowest tag is served.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

PIECE_S: Final = 0.1
PIECE_BYTES_MIN: Final = 16 * 1024
"""A limited reader takes what the limit allows in ``PIECE_S``, but no less than this."""


class Bucket:
    """A limit of ``rate_bps`` bytes a second; None: no limit."""

    def __init__(self, rate_bps: float | None = None) -> None:
        self.rate_bps = rate_bps
        self._level_bytes = 0.0
        self._at_s: float | None = None

    @property
    def piece_bytes(self) -> int | None:
        """How much may be taken at once; None: no matter."""
        if self.rate_bps is None:
            return None
        return max(PIECE_BYTES_MIN, int(self.rate_bps * PIECE_S))

    def change(self, rate_bps: float | None, now_s: float) -> None:
        """Another limit from now on; nothing is owed under the old one."""
        if rate_bps != self.rate_bps:
            self.rate_bps, self._level_bytes, self._at_s = rate_bps, 0.0, now_s

    def wait_s(self, now_s: float) -> float:
        """How long until something may be taken."""
        if self.rate_bps is None:
            return 0.0
        self._fill(now_s)
        return max(0.0, -self._level_bytes / self.rate_bps)

    def take(self, count_bytes: int) -> None:
        """So much is taken (given back, if negative)."""
        if self.rate_bps is not None:
            self._level_bytes -= count_bytes

    def _fill(self, now_s: float) -> None:
        rate_bps = self.rate_bps or 0.0
        if self._at_s is not None:
            grown = self._level_bytes + rate_bps * max(0.0, now_s - self._at_s)
            self._level_bytes = min(grown, rate_bps * PIECE_S)
        self._at_s = now_s


@dataclass(slots=True)
class Share:
    """One job's part: its weight, its own limit, and how far it has been served."""

    weight: int
    bucket: Bucket = field(default_factory=Bucket)
    tag: float = 0.0


@dataclass(slots=True, eq=False)
class Ask:
    """A reader that would like ``want_bytes``."""

    share: Share
    want_bytes: int


class Queue:
    """The readers that wait, and the bucket that they all take from."""

    def __init__(self, total: Bucket) -> None:
        self.total = total
        self._asks: list[Ask] = []
        self._now_tag = 0.0

    def ask(self, share: Share, want_bytes: int) -> Ask:
        """Line up. What was not used while nobody of the job waited is not made up for."""
        if all(a.share is not share for a in self._asks):
            share.tag = max(share.tag, self._now_tag)
        self._asks.append(found := Ask(share, want_bytes))
        return found

    def withdraw(self, ask: Ask) -> None:
        """Leave, if still there."""
        if ask in self._asks:
            self._asks.remove(ask)

    def serve(self, now_s: float) -> list[tuple[Ask, int]]:
        """All that may be given now: who, and how many bytes."""
        given = []
        while self._asks and not self.total.wait_s(now_s):
            ready = [a for a in self._asks if not a.share.bucket.wait_s(now_s)]
            if not ready:
                break
            ask = min(ready, key=lambda a: a.share.tag)
            self._asks.remove(ask)
            self._now_tag = ask.share.tag
            pieces = (self.total.piece_bytes, ask.share.bucket.piece_bytes)
            count = min([ask.want_bytes, *(p for p in pieces if p is not None)])
            self.charge(ask.share, count)
            given.append((ask, count))
        return given

    def charge(self, share: Share, count_bytes: int) -> None:
        """The share's job has taken so much (given back, if negative)."""
        self.total.take(count_bytes)
        share.bucket.take(count_bytes)
        share.tag += count_bytes / share.weight

    def next_s(self, now_s: float) -> float | None:
        """How long until ``serve`` will give something; None: nobody waits."""
        own = [a.share.bucket.wait_s(now_s) for a in self._asks]
        return max(self.total.wait_s(now_s), min(own)) if own else None
