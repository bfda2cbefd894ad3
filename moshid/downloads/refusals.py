"""When a no is believed: boxes on the way (portals, proxies, starting backends) say no, too, for a
while. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

REFUSALS_MAX: Final = 4
"""So often in a row has somebody to refuse before it is meant."""

GAP_S: Final = 0.5
GAPS_GROW: Final = 3.0
"""The wait after the first refusal, and how much longer each one after it is."""

FINAL: Final = frozenset(
    {400, 402, 405, 406, 410, 411, 412, 413, 414, 415, 417, 418, 422, 426, 428, 431, 451}
    | {501, 505, 506, 508, 510}
)
"""Statuses that mean a no, if they are meant at all; those for which there is a kind of error are
told apart elsewhere."""

EMPTY: Final = frozenset({204, 205, 304})
"""Statuses of answers that hold nothing of a file; nobody asked whether it has changed."""

OF_RANGES: Final = frozenset({400, 403, 405, 406, 412, 417, 501})
"""Statuses by which servers refuse a part of what they give as a whole."""


@dataclass(slots=True)
class Refusals:
    """Refusals in a row, of each thing that is asked for."""

    _counts: dict[str, int] = field(default_factory=dict)

    def again(self, what: str) -> float | None:
        """One more: how long to wait before asking again; None: it is meant, and counted anew."""
        count = self._counts[what] = self._counts.get(what, 0) + 1
        if count < REFUSALS_MAX:
            return GAP_S * GAPS_GROW ** (count - 1)
        del self._counts[what]
        return None

    def over(self, what: str) -> None:
        """It was given."""
        self._counts.pop(what, None)
