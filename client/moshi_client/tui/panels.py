"""The panels of daemon, model, downloads and log: a state and a size → lines. Pure.

Each ``*_rows`` gives at most ``rows`` lines, what matters most first.
"""

from __future__ import annotations

import functools
import time
from datetime import datetime

from moshi_client import limits, progress, render
from moshi_client.tui import lines, widgets
from moshi_client.tui.lines import Line, line
from moshi_client.tui.state import FINISHED_JOBS, Json, State

BUDGET_MS = 80.0
"""A frame lasts so long; a step that takes longer is late."""

BAR_CELLS = 20
_LEVEL_STYLES = {"warning": "yellow", "error": "bold red", "critical": "bold red"}


def header(state: State, width: int) -> Line:
    """The first line: who the daemon is, and whether it is there."""
    daemon = state.daemon
    left = [line((" moshid ", "bold"), str(daemon.get("version") or ""))]
    if state.connected:
        left.append(line(f"pid {daemon.get('pid')}") if daemon.get("pid") else ())
        if since := daemon.get("since"):
            left.append(line(f"since {since}"))
        if memory := daemon.get("memory_bytes"):
            left.append(line(render.size(memory)))
    if not state.connected:
        right = line(("the daemon is away: trying again ", "bold red"))
    elif state.hangs:
        right = line(("the daemon does not answer ", "bold red"))
    elif state.stopping:
        right = line(("stopping ", "yellow"))
    else:
        right = line(("● ", "green"), "connected ")
    if state.events_lost:
        right = (*line((f"{state.events_lost} events lost  ", "yellow")), *right)
    return lines.apart(lines.joined(left), right, width)


def model_rows(state: State, width: int, rows: int) -> list[Line]:
    """The resident model: what it is, its steps against the budget, what went wrong."""
    model = state.model
    told = [_model_line(model, width)]
    if steps := _steps_line(model, width):
        told.append(steps)
    if trouble := _trouble(model):
        told.append(lines.fit(line(" ", (trouble, "red")), width))
    return told[:rows]


def model_wants(state: State) -> int:
    """Rows that the model's panel has something for."""
    return 1 + bool(_step_ms(state.model)) + bool(_trouble(state.model))


def _model_line(model: Json, width: int) -> Line:
    status = str(model.get("state") or "unknown")
    nobody = "" if status == "downloading" else "no model"
    name = f"{model.get('model') or nobody} {model.get('quality') or ''}".strip()
    parts: list[tuple[int, Line]] = [
        (0, line(" ", (name, "bold"))),
        (0, line((status, widgets.state_style(status)))),
    ]
    advance = model.get("progress") or {}
    if advance:
        share = float(advance.get("fraction") or 0.0)
        parts.append((2, widgets.bar(share, BAR_CELLS, "cyan")))
        parts.append((1, line(f"{share * 100:.0f} % {advance.get('stage') or ''}".rstrip())))
        if advance.get("bytes_total"):
            done, total = advance.get("bytes_done") or 0, advance["bytes_total"]
            parts.append((3, line(f"{render.size(done)} of {render.size(total)}")))
    if model.get("memory_bytes"):
        parts.append((1, line(render.size(model["memory_bytes"]))))
    if until := model.get("until"):
        parts.append((3, line(f"until {clock(str(until))[:5]}")))
    if model.get("restarts"):
        parts.append((2, line((render.count(int(model["restarts"]), "restart"), "yellow"))))
    return lines.fitting(parts, width)


def _step_ms(model: Json) -> dict[str, float]:
    told = model.get("step_ms") or {}
    return {
        name: float(told[name])
        for name in ("p50", "p95", "p99")
        if isinstance(told.get(name), int | float)
    }


def _steps_line(model: Json, width: int) -> Line:
    if not (step_ms := _step_ms(model)):
        return ()
    share = max(step_ms.values()) / BUDGET_MS
    style = "green" if share < 0.8 else "yellow" if share <= 1.0 else "red"
    parts = [(1 if name == "p95" else 0, line(f"{name} {ms:.1f}")) for name, ms in step_ms.items()]
    return lines.fitting(
        [
            (0, line(" step")),
            *parts,
            (0, line("ms of 80")),
            (2, widgets.bar(share, BAR_CELLS, style)),
            (3, line((f"{share * 100:.0f} %", style))),
        ],
        width,
    )


def _trouble(model: Json) -> str:
    for name in ("error", "last_fault"):
        if isinstance(fault := model.get(name), dict):
            at = f" at {clock(str(fault['at']))}" if fault.get("at") else ""
            return f"{name.replace('_', ' ')}: {fault.get('message') or fault.get('kind')}{at}"
    return str(model["error"]) if model.get("error") else ""


def download_rows(state: State, width: int, rows: int) -> list[Line]:
    """The jobs, the chosen one with its details below; the others as far as there is room."""
    jobs, chosen = state.listed_jobs, state.selected_job
    if chosen is None or rows <= 0:
        return [line((" no downloads", "dim"))][:rows]
    details = _job_details(chosen, width) if rows > 1 else ()
    room = rows - bool(details)
    at = jobs.index(chosen)
    first = max(0, min(at - room + 1, len(jobs) - room)) if at >= room else 0
    told: list[Line] = []
    for job in jobs[first : first + room]:
        told.append(_job_line(job, width, is_chosen=job is chosen))
        if job is chosen and details:
            told.append(details)
    return told


def download_wants(state: State) -> int:
    """Rows that the downloads' panel has something for."""
    chosen = state.selected_job
    return 1 if chosen is None else len(state.jobs) + bool(_job_details(chosen, BAR_CELLS))


def downloads_right(state: State) -> Line:
    """What stands at the right of the downloads' heading."""
    return line((limits.limits_text(state.limits), "yellow"))


def _job_line(job: Json, width: int, *, is_chosen: bool) -> Line:
    status = str(job.get("state"))
    total, done = job.get("bytes_total") or 0, job.get("bytes_done") or 0
    name = str(job.get("repo") or job.get("id"))
    short = lines.line(name.rpartition("/")[2] if width < 100 else name)
    style = "bold" if is_chosen else "dim" if status in FINISHED_JOBS else ""
    mark = line(("›" if is_chosen else " ", "cyan"), (lines.plain(lines.fit(short, 40)), style))
    parts: list[tuple[int, Line]] = [(0, mark), (0, line((status, widgets.state_style(status))))]
    if total and status not in FINISHED_JOBS:
        share = progress.job_fraction(job)
        parts.append((4, widgets.bar(share, BAR_CELLS if width >= 100 else 10, "cyan")))
        parts.append((1, line(f"{share * 100:.1f} %")))
        parts.append((5, line(f"{render.size(done)} of {render.size(total)}")))
    elif total:
        parts.append((5, line(render.size(total))))
    if status == "downloading":
        parts.append((2, line(render.rate(job.get("rate_bps")))))
        parts.append((3, line(f"ETA {render.duration(job.get('eta_s'))}")))
    if width >= 130 and status not in FINISHED_JOBS:
        parts.append((6, line(render.count(int(job.get("connections") or 0), "connection"))))
        parts.append((7, _retries(job)))
    return lines.fitting(parts, width)


def _retries(job: Json) -> Line:
    retries = int(job.get("retries") or 0)
    word = "retry" if retries == 1 else "retries"
    return line((f"{retries} {word}", "yellow" if retries else ""))


def _job_details(job: Json, width: int) -> Line:
    if error := job.get("error"):
        message = error.get("message") if isinstance(error, dict) else error
        return lines.fit(line("  ", (str(message), "red")), width)
    if job.get("state") in FINISHED_JOBS:
        return ()
    parts = [
        (0, line(" ", render.count(int(job.get("connections") or 0), "connection"))),
        (1, _retries(job)),
    ]
    if job.get("bytes_rescued"):
        parts.append((3, line(f"{render.size(job['bytes_rescued'])} found here")))
    if job.get("bytes_refetched"):
        parts.append((4, line(f"{render.size(job['bytes_refetched'])} again")))
    if terms := limits.terms_text(job):
        parts.append((2, line((terms, "yellow"))))
    parts.append((5, line((f"job {job.get('id')}", "dim"))))
    return lines.fitting(parts, width)


def log_rows(state: State, width: int, rows: int) -> list[Line]:
    """The newest lines of the daemon's log."""
    newest = state.log[-rows:] if rows > 0 else ()
    return [lines.fit(_log_line(entry), width) for entry in newest]


def _log_line(entry: Json) -> Line:
    level = str(entry.get("level") or "")
    at = clock(str(entry.get("t") or ""))
    style = _LEVEL_STYLES.get(level.lower(), "")
    text = f"{entry.get('logger', '')}: {entry.get('msg', '')}"
    return line(
        (f" {at} " if at else " ", "dim"), (f"{level} " if style else "", style), (text, style)
    )


@functools.lru_cache(maxsize=512)
def clock(timestamp: str) -> str:
    """An RFC 3339 time as the clock on the wall says it: ``10:31:05``."""
    try:
        return datetime.fromisoformat(timestamp).astimezone().strftime("%H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return ""


def since(uptime_s: object, now_s: float) -> str:
    """When it was started, as the clock on the wall said; a date once that is a day ago."""
    if not isinstance(uptime_s, int | float):
        return ""
    form = "%H:%M" if uptime_s < 86400 else "%Y-%m-%d"
    return time.strftime(form, time.localtime(now_s - uptime_s))
