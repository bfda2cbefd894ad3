"""Values as text: sizes, rates, times, tables. Pure: takes values, returns strings."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    Json = dict[str, Any]

NONE = "-"
"""Stands for a value that is not known or not there."""

_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count_bytes: float | None) -> str:
    """Bytes in decimal units, three digits: ``15.4 GB``."""
    if count_bytes is None:
        return NONE
    value = float(count_bytes)
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    if unit == "B" or abs(value) >= 99.95:
        return f"{value:.0f} {unit}"
    return f"{value:.1f} {unit}"


def rate(rate_bps: float | None) -> str:
    """Bytes a second: ``3.4 MB/s``."""
    return f"{size(rate_bps)}/s" if rate_bps else NONE


def duration(seconds: float | None) -> str:
    """``0:07``, ``12:34``, ``3:04:05``, or days: ``2d 3h``."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d {whole % 86400 // 3600}h"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def milliseconds(value: float | None) -> str:
    """``24.3 ms``."""
    return NONE if value is None else f"{value:.1f} ms"


def percentiles(values: Json | None, names: Sequence[str] = ("p50", "p95")) -> str:
    """``p50 24.3 ms, p95 30.1 ms`` of ``{"p50": ..., ...}``."""
    known = [f"{n} {milliseconds(v)}" for n in names if (v := (values or {}).get(n)) is not None]
    return ", ".join(known) or NONE


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, two spaces apart; None shows as ``-``."""
    cells = [list(headers)] + [[NONE if c is None else str(c) for c in row] for row in rows]
    widths = [max(columns(row[i]) for row in cells) for i in range(len(headers))]
    lines = ("  ".join(_padded(c, w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def pairs(values: Iterable[tuple[str, object]]) -> str:
    """One ``name  value`` a line, names padded to the same width."""
    listed = [(name, NONE if value is None else str(value)) for name, value in values]
    width = max((columns(name) for name, _ in listed), default=0)
    return "\n".join(f"{_padded(name, width)}  {value}" for name, value in listed)


def columns(text: str) -> int:
    """How many a terminal needs for ``text``: East Asian characters and emoji take two each."""
    if text.isascii():
        return len(text)
    from moshi_client.tui import text as wide  # for those who need it

    return wide.width(wide.clean(text))


def cut(text: str, width: int | None) -> str:
    """As much of ``text`` as one line of a terminal shows in ``width`` columns, without anything
    that moves its cursor."""
    if text.isascii() and text.isprintable():
        return text[:width]
    from moshi_client.tui import text as wide

    cleaned = wide.clean(text)
    return cleaned if width is None else wide.cut(cleaned, width)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def bar(fraction: float, width: int) -> str:
    """``[#####.....]``, ``width`` characters between the brackets."""
    filled = round(max(0.0, min(1.0, fraction)) * width)
    return "[" + "#" * filled + "." * (width - filled) + "]"


def parse_size(text: str) -> int:
    """``8M``, ``512k``, ``1.5 GiB``, ``1048576`` as bytes; k/M/G are powers of 1024.

    Raises:
        ValueError: no size.
    """
    plain = text.strip().lower().removesuffix("b").removesuffix("i").strip()
    factor = 1
    if plain and plain[-1] in "kmgt":
        factor = 1024 ** ("kmgt".index(plain[-1]) + 1)
        plain = plain[:-1]
    value = float(plain) * factor
    if not 0 < value < 2**63:
        raise ValueError(f"{text!r} is no size")
    return int(value)


def parse_rate(text: str) -> int:
    """``500k``, ``2M``, ``1.5MB/s``, ``2MiB/s`` as bytes a second; k/M/G are powers of 1000, as in
    what ``rate`` shows, and with an i of 1024.

    Raises:
        ValueError: no rate.
    """
    plain = text.strip().lower().removesuffix("/s").strip().removesuffix("b")
    base = 1024 if plain.endswith("i") else 1000
    plain = plain.removesuffix("i").strip()
    factor = 1
    if plain and plain[-1] in "kmg":
        factor = base ** ("kmg".index(plain[-1]) + 1)
        plain = plain[:-1]
    value = float(plain) * factor
    if not 1 <= value < 2**63:
        raise ValueError(f"{text!r} is no rate")
    return int(value)
