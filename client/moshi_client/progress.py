"""Progress on stderr: one line drawn over again in a terminal, a plain line now and then elsewhere.

Owns how often it is shown and how it is erased.
"""

from __future__ import annotations

import time

from moshi_client import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from moshi_client.context import Context

    Json = dict[str, Any]

REDRAW_INTERVAL_S = 0.1
PLAIN_INTERVAL_S = 10.0
PLAIN_STEP = 0.1
"""Elsewhere than in a terminal, a line is written every tenth of the way, or every ten seconds."""

CUT = "..."
NAME_COLUMNS_MIN = 12


class ProgressLine:
    """The line at the bottom. ``clear`` before anything else is written."""

    def __init__(self, ctx: Context, clock: Callable[[], float] = time.monotonic) -> None:
        self._ctx = ctx
        self._clock = clock
        self._drawn_at = -REDRAW_INTERVAL_S
        self._shown = False
        self._stage = ""
        self._plain_at = float("-inf")
        self._plain_fraction = -1.0
        self._plain_stage = ""

    @property
    def columns(self) -> int | None:
        """Characters that there is room for; None where lines may be of any length."""
        return _columns(self._ctx) - 1 if self._ctx.live else None

    def show(self, text: str, *, fraction: float = 0.0, stage: str = "") -> None:
        """Show ``text``; a new ``stage`` at once, else now and then, as ``fraction`` grows."""
        now = self._clock()
        if self._ctx.live:
            # A change of state may be the last news for long, so it is never left out.
            soon = now - self._drawn_at < REDRAW_INTERVAL_S and stage == self._stage
            if not soon or fraction >= 1.0:
                self._draw(text, now)
                self._stage = stage
        elif self._is_due(now, fraction, stage):
            self._ctx.say(text)

    def clear(self) -> None:
        """Erase the line, if one is drawn."""
        if self._shown:
            self._ctx.tell("\r\x1b[K")
            self._shown = False

    def _draw(self, text: str, now: float) -> None:
        self._ctx.tell("\r" + render.cut(text, self.columns) + "\x1b[K")
        self._drawn_at, self._shown = now, True

    def _is_due(self, now: float, fraction: float, stage: str) -> bool:
        due = (
            stage != self._plain_stage
            or fraction - self._plain_fraction >= PLAIN_STEP
            or now - self._plain_at >= PLAIN_INTERVAL_S
        )
        if due:
            self._plain_at, self._plain_fraction, self._plain_stage = now, fraction, stage
        return due


def job_name(job: Json) -> str:
    """What a job fetches; of a URL, which several may fetch, also to where."""
    name = str(job.get("repo") or job.get("id"))
    return f"{name} to {job['output']}" if job.get("output") else name


def job_line(job: Json, bar_width: int = 20, *, columns: int | None = None) -> str:
    """A download job as one line: name, bar, share, bytes, rate, time left, state.

    ``columns``: what matters least is left out until it fits, as far as that goes.
    """
    parts = _job_parts(job, bar_width)
    line = "  ".join(parts.values())
    for name in _LEAST_FIRST if columns is not None else ():
        if render.columns(line) <= (columns or 0):
            break
        if name == "name":
            parts["name"] = _short(parts["name"], columns or 0)
        elif name != "state" or parts["state"] == "downloading":  # its rate and ETA say that
            parts.pop(name, None)
        line = "  ".join(parts.values())
    return line


def _short(name: str, columns: int) -> str:
    """Without its folder, and cut to 2 of 5 columns: the rest tells how far it is."""
    name = name.rpartition("/")[2]
    room = max(NAME_COLUMNS_MIN, columns * 2 // 5)
    if render.columns(name) <= room:
        return name
    return render.cut(name, room - len(CUT)) + CUT


_LEAST_FIRST = ("bar", "name", "bytes", "rate", "state", "eta")


def _job_parts(job: Json, bar_width: int) -> dict[str, str]:
    total, done = job.get("bytes_total") or 0, job.get("bytes_done") or 0
    parts = {"name": job_name(job)}
    if total:
        share = done / total
        parts["bar"] = render.bar(share, bar_width)
        parts["share"] = f"{share * 100:5.1f} %"
        parts["bytes"] = f"{render.size(done)} of {render.size(total)}"
    if job.get("state") == "downloading":
        parts["rate"] = render.rate(job.get("rate_bps"))
        parts["eta"] = f"ETA {render.duration(job.get('eta_s'))}"
    parts["state"] = str(job.get("state"))
    if error := job.get("error"):
        parts["why"] = f"({error.get('message')})"
    return parts


def job_fraction(job: Json) -> float:
    """Share of the bytes that are there, 0 to 1."""
    total = job.get("bytes_total") or 0
    return min(1.0, (job.get("bytes_done") or 0) / total) if total else 0.0


def model_line(status: Json, bar_width: int = 20) -> str:
    """A model that is loading as one line."""
    progress = status.get("progress") or {}
    parts = [f"{status.get('model') or 'model'} {status.get('quality') or ''}".strip()]
    if "fraction" in progress:
        share = float(progress["fraction"] or 0.0)
        parts += [render.bar(share, bar_width), f"{share * 100:5.1f} %"]
    if progress.get("bytes_total"):
        done, total = progress.get("bytes_done") or 0, progress["bytes_total"]
        parts.append(f"{render.size(done)} of {render.size(total)}")
        parts.append(f"layer {progress.get('layers_done')} of {progress.get('layers_total')}")
    parts.append(str(progress.get("stage") or status.get("state")))
    return "  ".join(parts)


def _columns(ctx: Context) -> int:
    import os

    if ctx.env.get("COLUMNS", "").isdecimal():
        return max(20, int(ctx.env["COLUMNS"]))
    try:
        columns = os.get_terminal_size(ctx.err.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return max(20, columns or 80)
