"""How long something lasts, as people write it: ``10m``, ``1h30m``, ``300``, ``forever``. Pure."""

from __future__ import annotations

import re
from typing import Final

FOREVER: Final = "forever"
LONGEST_S: Final = 366 * 86400.0

_UNITS_S: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")


def parse(value: str | float) -> float | None:
    """Seconds; None is for ever.

    Raises:
        ValueError: neither a number of seconds, nor a duration, nor ``forever``; or longer than
            a year, which ``forever`` is for.
    """
    seconds = _seconds(value)
    if seconds is not None and not 0.0 <= seconds <= LONGEST_S:
        raise ValueError(f"{value!r} is not between 0 and a year; write {FOREVER!r} for no end")
    return seconds


def _seconds(value: str | float) -> float | None:
    if not isinstance(value, str):
        return float(value)
    text = value.strip().lower()
    if text == FOREVER:
        return None
    if _WHOLE.fullmatch(text):
        return sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{value!r} is no duration: write seconds, or 10m, 1h30m, {FOREVER}"
        ) from None
