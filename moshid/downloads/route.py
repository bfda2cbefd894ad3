"""A job's way to the servers: how many connections, whether anything moves, whether anybody can be
reached. What all its transfers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import aiohttp

from moshid.downloads.aftermath import Aftermath
from moshid.downloads.edition import Edition, Editions
from moshid.downloads.meter import Meter
from moshid.downloads.pace import Gate
from moshid.downloads.reach import Reach
from moshid.downloads.stall import Stalls
from moshid.errors import DigestMismatch

REPLACED_HINT: Final = (
    "If it has been replaced, its SHA-256 is another: cancel the job and start anew. "
    "Otherwise wait: the digest tells in the end."
)


@dataclass(frozen=True, slots=True)
class Route:
    """Of one job. ``editions``: of the file of a URL; a Hub's are pinned."""

    gate: Gate
    stalls: Stalls
    reach: Reach
    meter: Meter
    aftermath: Aftermath = field(default_factory=Aftermath)
    editions: Editions | None = None

    @property
    def has_room(self) -> bool:
        """Whether one more connection may be open."""
        return self.meter.job.connections < self.gate.limit and self.gate.allowance.may_open()

    def gave(self, answer: aiohttp.ClientResponse) -> None:
        """The server gives bytes to one more."""
        self.gate.gave(self.meter.job.connections + 1)
        if self.editions is not None:
            self.editions.saw(str(answer.url.origin()), Edition.of(answer.headers))
            self.meter.warn(self.replaced)

    @property
    def replaced(self) -> DigestMismatch | None:
        """What to tell of a file that is, as it seems, not the one any more that it was."""
        if self.editions is None or self.editions.news is None:
            return None
        why = f"the server has another file there than when this began: {self.editions.news}"
        return DigestMismatch(why, hint=REPLACED_HINT)
