"""A job's way to the servers: how many connections, whether anything moves, whether anybody can be
reached. What all its transfers share."""

from __future__ import annotations

from dataclasses import dataclass, field

from moshid.downloads.aftermath import Aftermath
from moshid.downloads.meter import Meter
from moshid.downloads.pace import Gate
from moshid.downloads.reach import Reach
from moshid.downloads.stall import Stalls


@dataclass(frozen=True, slots=True)
class Route:
    """Of one job."""

    gate: Gate
    stalls: Stalls
    reach: Reach
    meter: Meter
    aftermath: Aftermath = field(default_factory=Aftermath)

    @property
    def has_room(self) -> bool:
        """Whether one more connection may be open."""
        return self.meter.job.connections < self.gate.limit and self.gate.allowance.may_open()
