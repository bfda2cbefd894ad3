"""What one job may take of the line: how many connections, how many bytes next.

``Allowance`` is a job's side of the shared ``Line``; ``Unlimited`` is one that allows everything.
Nothing here decides: the line does, whenever something changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from moshid.downloads.job import Job, JobError
from moshid.downloads.shares import Share
from moshid.errors import DownloadWaits


class Unlimited:
    """All of the line. ``on_seats``: called when more connections may be opened; ``free``: whoever
    cannot be told how much to read may go ahead."""

    free: bool = True
    on_seats: Callable[[], None] | None = None

    async def grant(self, want_bytes: int) -> int:
        """Wait until something may be read; returns how much, 1 to ``want_bytes``."""
        return want_bytes

    def charge(self, extra_bytes: int) -> None:
        """So much came beyond what was granted; less than that, if negative."""

    def moved(self) -> None:
        """Bytes of the job came."""

    def may_open(self) -> bool:
        """Whether the job may open one more connection."""
        return True

    def opened(self) -> None:
        """A connection is opened."""

    def closed(self) -> None:
        """A connection is closed."""


class Ruler(Protocol):
    """Who decides: the line."""

    def now_s(self) -> float:
        """The time, by the clock that the limits go by."""

    async def read(self, allowance: Allowance, want_bytes: int) -> int:
        """As ``Unlimited.grant``, for this job."""

    def paid(self, allowance: Allowance, extra_bytes: int) -> None:
        """As ``Unlimited.charge``, for this job."""

    def may_open(self, allowance: Allowance) -> bool:
        """As ``Unlimited.may_open``, for this job."""

    def left(self, allowance: Allowance) -> None:
        """One of its connections is closed."""


@dataclass(eq=False, slots=True)
class Allowance(Unlimited):
    """One job's part. ``seats``: how many connections it has been given, ``inside``: how many are
    open; ``free``: it may read whatever it wants; ``running``: it has its turn; ``moved_s``: when
    bytes last came; ``stuck_since_s``: since when it gets nowhere, at ``stuck_bytes``."""

    job: Job
    connections_max: int
    tell: Callable[[], None]
    ruler: Ruler
    share: Share = field(default_factory=lambda: Share(1))
    on_seats: Callable[[], None] | None = None
    seats: int = 1
    inside: int = 0
    free: bool = True
    running: bool = False
    moved_s: float | None = None
    stuck_since_s: float | None = None
    stuck_bytes: int = 0

    async def grant(self, want_bytes: int) -> int:
        return want_bytes if self.free else await self.ruler.read(self, want_bytes)

    def charge(self, extra_bytes: int) -> None:
        if not self.free:
            self.ruler.paid(self, extra_bytes)

    def moved(self) -> None:
        self.moved_s = self.ruler.now_s()

    def may_open(self) -> bool:
        return self.ruler.may_open(self)

    def opened(self) -> None:
        self.inside += 1

    def closed(self) -> None:
        self.inside -= 1
        self.ruler.left(self)

    def waits(self, why: DownloadWaits | None) -> None:
        """Show in the job why it waits; or, with None, that it does no more."""
        error = self.job.error
        if why is None:
            if error is None or not error.kind.startswith(DownloadWaits.kind):
                return
            self.job.error = None
        else:
            told = JobError.of(why)
            if told == error:
                return
            self.job.error = told
        self.tell()
