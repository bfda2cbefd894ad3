"""What the user sets while downloads run: a job's terms, and the limits over all jobs. Owns that
the ledger remembers it and the line hears of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moshid.downloads.engine import Engine
from moshid.downloads.entries import Entries
from moshid.downloads.job import Job
from moshid.downloads.limits import Limits, remember, remembered
from moshid.downloads.line import Line
from moshid.downloads.terms import Terms
from moshid.errors import InvalidParams


class Controls:
    """The user's hand on ``line``. ``settings``: the limits that the settings name."""

    def __init__(
        self, settings: Limits, entries: Entries, line: Line, engine: Callable[[], Engine]
    ) -> None:
        self._settings = settings
        self._entries = entries
        self._line = line
        self._engine = engine

    async def load(self, engine: Engine) -> None:
        """Go on with what the ledger remembers."""
        self._line.set(await remembered(engine.ledger, self._settings))

    async def set_terms(self, id_or_repo: str, terms: Terms) -> Job:
        """Change a job's priority or limit, at once."""
        entry = self._entries.get(id_or_repo)
        await self._entries.agree(self._engine(), entry, terms)
        self._line.look()
        return entry.job.copy()

    async def set_limits(self, **changes: Any) -> dict[str, Any]:
        """Change the limits over all jobs, at once; returns all of them.

        Raises:
            InvalidParams: the schedule is none.
        """
        try:
            limits = self._line.limits.but(**changes)
        except ValueError as e:
            raise InvalidParams(f"schedule: {e}") from e
        if limits != self._line.limits:
            await remember(self._engine().ledger, self._settings, limits)
            self._line.set(limits)
        return self.limits()

    def limits(self) -> dict[str, Any]:
        """The limits; whether the schedule lets downloads run at full speed, until when (local
        time), and the limit that goes now."""
        changes = self._line.changes
        return self._line.limits.plain() | {
            "open": self._line.is_open,
            "until": changes.isoformat(timespec="minutes") if changes else None,
            "limit_now_bps": self._line.limit_bps,
        }
