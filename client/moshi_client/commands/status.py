"""``status`` and ``ps``: what the daemon is doing now."""

from __future__ import annotations

from moshi_client import progress, render
from moshi_client.errors import EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]


def register(commands: Commands) -> None:
    """Add both commands."""
    commands.add("status", _status, "what the daemon is doing")
    ps = commands.add("ps", _ps, "the resident model: memory, speed, how long it stays")
    ps.add_argument("--follow", action="store_true", help="go on, one line a change")


def _status(ctx: Context, _args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        status = connection.call("daemon.status")
    ctx.emit(status, _status_text(status))
    return EXIT_OK


def _status_text(status: Json) -> str:
    up, memory = status.get("uptime_s"), status.get("memory_bytes")
    lines: list[tuple[str, object]] = [
        (
            "moshid",
            f"{status.get('version')}, pid {status.get('pid')}, up {render.duration(up)}, "
            f"{render.size(memory)}",
        ),
        ("home", status.get("home")),
        ("model", _model_text(status.get("model") or {})),
        ("talk", _talk_text(status.get("talk") or {})),
    ]
    jobs = status.get("downloads") or []
    lines += [("download", progress.job_line(job, bar_width=10)) for job in jobs]
    lines += [
        ("worker", f"{w.get('name')}, pid {w.get('pid')}, {w.get('state')}")
        for w in status.get("workers") or []
    ]
    return render.pairs(lines)


def _model_text(model: Json) -> str:
    if not model.get("model"):
        return str(model.get("state") or "none")
    parts = [f"{model['model']} {model.get('quality') or ''}".strip(), str(model.get("state"))]
    if model.get("memory_bytes"):
        parts.append(render.size(model["memory_bytes"]))
    if (model.get("step_ms") or {}).get("p50") is not None:
        parts.append(f"step {render.percentiles(model['step_ms'])}")
    if model.get("error"):
        parts.append(f"error: {_message(model['error'])}")
    return ", ".join(parts)


def _talk_text(talk: Json) -> str:
    if not talk.get("session"):
        return str(talk.get("state") or "idle")
    return (
        f"{talk.get('state')}, {render.duration(talk.get('seconds'))}, "
        f"{talk.get('frames')} frames, {talk.get('lagged_frames')} lagged, "
        f"{talk.get('underruns')} underruns, latency {render.percentiles(talk.get('latency_ms'))}"
    )


def _ps(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        if args.follow:
            snapshot = connection.call("events.subscribe", {"topics": ["model"]})["snapshot"]
            _emit_ps(ctx, (snapshot.get("model") or {}).get("status") or {}, header=True)
            for _, event in connection.follow():
                if status := (event.get("data") or {}).get("status"):
                    _emit_ps(ctx, status, header=False)
        _emit_ps(ctx, connection.call("model.status"), header=True)
    return EXIT_OK


def _emit_ps(ctx: Context, model: Json, *, header: bool) -> None:
    row = (
        model.get("model"),
        model.get("quality"),
        model.get("state"),
        render.size(model.get("memory_bytes")),
        render.milliseconds((model.get("step_ms") or {}).get("p50")),
        model.get("until") or ("for ever" if model.get("pid") else None),
        model.get("pid"),
        model.get("restarts"),
    )
    headers = ("MODEL", "QUALITY", "STATE", "MEMORY", "STEP", "UNTIL", "PID", "RESTARTS")
    text = render.table(headers, [row])
    ctx.emit(model, text if header else text.split("\n", 1)[1])


def _message(error: object) -> str:
    return str(error.get("message")) if isinstance(error, dict) else str(error)
