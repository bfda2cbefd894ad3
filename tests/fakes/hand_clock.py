"""Clocks that stand until they are put forward by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from moshid.downloads.line import Clocks

MONDAY_NOON_S = datetime(2025, 6, 2, 12, 0, tzinfo=UTC).timestamp()


class HandClock:
    """Both times of a line: they go on together, and only by ``advance``."""

    def __init__(self, epoch_s: float = MONDAY_NOON_S) -> None:
        self.steady_s = 1000.0
        self.epoch_s = epoch_s

    @property
    def clocks(self) -> Clocks:
        """As a line wants them; the wall's clock shows UTC."""
        return Clocks(
            steady=lambda: self.steady_s,
            epoch=lambda: self.epoch_s,
            local=lambda s: datetime.fromtimestamp(s, UTC),
        )

    def advance(self, seconds: float = 0.0, *, hours: float = 0.0) -> None:
        """Put both forward."""
        span_s = seconds + timedelta(hours=hours).total_seconds()
        self.steady_s += span_s
        self.epoch_s += span_s
