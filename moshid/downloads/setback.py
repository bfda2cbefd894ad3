"""Why an attempt failed, and what that says of the line. Pure."""

from __future__ import annotations

from typing import Final

from moshid.errors import DownloadNetwork

HOSTS_LOST_MAX: Final = 2
"""So many links in a row may name a host that cannot be reached; then the line may be to blame."""


class Setback(Exception):
    """An attempt failed. ``wait_s``: the server asked for so much patience; ``trouble``: the bytes
    or the line may be to blame; ``unreachable``: nobody answered at all; ``renewed``: the link was
    no longer good, and there will be another; ``stalled``: it took its time already; ``fresh``: who
    named the link had answered just before; ``busy``: the server has no room for so many;
    ``hint``: what the user can do."""

    def __init__(
        self,
        reason: str,
        *,
        wait_s: float | None = None,
        trouble: bool = True,
        unreachable: bool = False,
        renewed: bool = False,
        stalled: bool = False,
        fresh: bool = False,
        busy: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.trouble = trouble
        self.unreachable = unreachable
        self.renewed = renewed
        self.stalled = stalled
        self.fresh = fresh
        self.busy = busy
        self.hint = hint

    @property
    def told(self) -> DownloadNetwork:
        """What the user hears of it."""
        return DownloadNetwork(self.reason, hint=self.hint)

    def says_line_is_down(self, failures: int) -> bool:
        """Whether nobody need try for a while, after so many failures in a row before it."""
        return self.unreachable and not (self.fresh and failures < HOSTS_LOST_MAX)
