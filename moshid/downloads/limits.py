"""What the user allows all downloads together: speed, hours, metered or not. Owns how that is set:
by settings, and at run time, which the ledger remembers until the setting itself is changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from moshid.downloads.ledger import Ledger
from moshid.downloads.ledger_thread import LedgerThread
from moshid.schedule import Schedule
from moshid.settings import Settings

META_KEY: Final = "limits"


@dataclass(frozen=True, slots=True)
class Limits:
    """``limit_bps``: bytes a second over all jobs; ``schedule``: when jobs run; ``metered``: only
    what is urgent."""

    limit_bps: int | None = None
    schedule: Schedule | None = None
    metered: bool = False

    @classmethod
    def of_settings(cls, settings: Settings) -> Limits:
        """What the settings say."""
        text = settings.download_schedule.strip()
        schedule = Schedule.parse(text) if text else None
        return cls(settings.download_limit_bps or None, schedule, settings.download_metered)

    def plain(self) -> dict[str, Any]:
        """The limits as JSON has them."""
        text = self.schedule.text if self.schedule else None
        return {"limit_bps": self.limit_bps, "schedule": text, "metered": self.metered}

    def but(self, **changes: Any) -> Limits:
        """These limits with some of the ``plain`` values changed.

        Raises:
            ValueError: the schedule is none.
        """
        if isinstance(text := changes.get("schedule"), str):
            changes["schedule"] = Schedule.parse(text)
        return replace(self, **changes)


async def remembered(ledger: LedgerThread, settings: Limits) -> Limits:
    """The settings' limits, with what was changed at run time since they were as they are."""
    text = await ledger.call(Ledger.meta, META_KEY)
    known: dict[str, list[Any]] = json.loads(text) if text else {}
    base = settings.plain()
    return settings.but(**{n: now for n, (then, now) in known.items() if base[n] == then})


async def remember(ledger: LedgerThread, settings: Limits, limits: Limits) -> None:
    """Keep what differs from the settings."""
    base, now = settings.plain(), limits.plain()
    changed = {name: [base[name], now[name]] for name in base if base[name] != now[name]}
    await ledger.call(Ledger.set_meta, META_KEY, json.dumps(changed))
