"""When downloads may run: windows of local time, and what goes for the time outside. Pure.

``22:00-07:00``, ``mon-fri 22:00-07:00; sat,sun 00:00-24:00``, ``23:00-06:00; else 200k``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import gcd
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN: Final = 24 * 60
QUARTER_MIN: Final = 15
LOOK_AHEAD_S: Final = 8 * 86400

_WINDOW: Final = re.compile(r"(?:([a-z,\-]+) +)?(\d{1,2}):(\d\d) *- *(\d{1,2}):(\d\d)")
_ELSE: Final = re.compile(r"else +(\d+(?:\.\d+)?) *([kmg]?)(i?)b?(?:/s)?")

Local = Callable[[float], datetime]
"""Seconds since the epoch → what the clock on the wall shows then, summer time and all."""


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start_min`` to ``stop_min`` of the day, in minutes; a stop that is not later than the
    start is on the next day. ``days`` are those on which it starts, 0 for Monday."""

    days: frozenset[int]
    start_min: int
    stop_min: int

    def holds(self, wall: datetime) -> bool:
        """Whether that moment lies in the window."""
        minute, today = wall.hour * 60 + wall.minute, wall.weekday()
        if self.start_min < self.stop_min:
            return today in self.days and self.start_min <= minute < self.stop_min
        if minute >= self.start_min:
            return today in self.days
        return minute < self.stop_min and (today - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class Schedule:
    """Downloads run within the windows; outside of them at ``outside_bps``, or not at all."""

    text: str
    windows: tuple[Window, ...]
    outside_bps: int | None = None

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read a schedule.

        Raises:
            ValueError: it is none; the message says what is wrong.
        """
        parts = [p.strip() for p in text.lower().split(";") if p.strip()]
        windows = tuple(_window(p) for p in parts if not p.startswith("else"))
        limits = [_outside_bps(p) for p in parts if p.startswith("else")]
        if not windows or len(limits) > 1:
            raise ValueError(
                f"{text!r} names no hours, as 22:00-07:00 or sat,sun 00:00-24:00; else 200k"
            )
        return cls("; ".join(parts), windows, limits[0] if limits else None)

    def is_open(self, wall: datetime) -> bool:
        """Whether that moment lies in a window."""
        return any(w.holds(wall) for w in self.windows)

    def next_change_s(self, now_s: float, local: Local) -> float | None:
        """When it opens or closes next, in seconds since the epoch; None: not within eight days.
        Looks at each moment to come at which it may, so that a night with a clock change needs no
        rule; clocks differ from the epoch's by quarters of an hour."""
        now_open = self.is_open(local(now_s))
        step_s = 60 * gcd(
            QUARTER_MIN, *(m for w in self.windows for m in (w.start_min, w.stop_min))
        )
        look_s = now_s - now_s % step_s
        while (look_s := look_s + step_s) <= now_s + LOOK_AHEAD_S:
            if self.is_open(local(look_s)) is not now_open:
                return look_s
        return None


def _window(text: str) -> Window:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no window of time, as 22:00-07:00 or mon-fri 22:00-07:00")
    days, *numbers = found.groups()
    start_h, start_min, stop_h, stop_min = map(int, numbers)
    start, stop = start_h * 60 + start_min, stop_h * 60 + stop_min
    if start_min > 59 or stop_min > 59 or start >= DAY_MIN or stop > DAY_MIN:
        raise ValueError(f"{text!r}: times of day are 00:00 to 24:00")
    if start == stop:
        raise ValueError(f"{text!r}: start and end are the same; the whole day is 00:00-24:00")
    return Window(_days(days) if days else frozenset(range(7)), start, stop)


def _days(text: str) -> frozenset[int]:
    days = set[int]()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r} is no day: there are {', '.join(DAYS)}, and mon-fri")
        start = DAYS.index(first)
        count = (DAYS.index(last) - start) % 7 if dash else 0
        days |= {(start + i) % 7 for i in range(count + 1)}
    return frozenset(days)


def _outside_bps(text: str) -> int:
    found = _ELSE.fullmatch(text)
    if found is None or not float(found[1]):
        raise ValueError(f"{text!r} is no limit for the time outside, as: else 200k")
    base = 1024.0 if found[3] else 1000.0
    return max(1, round(float(found[1]) * base ** " kmg".index(found[2] or " ")))
