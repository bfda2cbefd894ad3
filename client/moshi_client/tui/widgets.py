"""Small parts of the picture: bars, meters, headings. Pure."""

from __future__ import annotations

from moshi_client.tui import lines
from moshi_client.tui.lines import Line, line

FULL, EMPTY = "█", "░"
RULE = "─"
FLOOR_DBFS = -60.0
"""Where a level meter begins."""


def bar(fraction: float, cells: int, style: str) -> Line:
    """A bar of ``cells`` cells."""
    filled = round(max(0.0, min(1.0, fraction)) * cells)
    return line((FULL * filled, style), (EMPTY * (cells - filled), "dim"))


def meter(dbfs: object, cells: int) -> Line:
    """A level in dB of full scale: green, yellow from -12 dB, red from -3 dB."""
    level = float(dbfs) if isinstance(dbfs, int | float) else FLOOR_DBFS
    style = "red" if level > -3.0 else "yellow" if level > -12.0 else "green"
    return bar(1.0 - max(level, FLOOR_DBFS) / FLOOR_DBFS, cells, style)


def heading(title: str, right: Line, cells: int) -> Line:
    """``─ Title ────── right ─``."""
    head = line((f"{RULE} ", "dim"), (title, "bold"), " ")
    tail = (*line(" "), *right, *line(" ")) if right else ()
    room = cells - lines.width(head) - lines.width(tail) - 1
    if tail and room < 1:
        right = lines.fit(right, max(0, cells - lines.width(head) - 4))
        tail = (*line(" "), *right, *line(" "))
        room = max(0, cells - lines.width(head) - lines.width(tail) - 1)
    rule = line((RULE * max(0, room), "dim"))
    return lines.fit((*head, *rule, *tail, *line((RULE, "dim"))), cells)


def state_style(state: str) -> str:
    """The colour of a state's name."""
    if state in ("failed", "cancelled"):
        return "bold red"
    if state in ("paused", "queued", "recovering", "stopping", "unloading", "absent"):
        return "yellow"
    if state in ("ready", "busy", "listening", "done"):
        return "green"
    return "cyan"
