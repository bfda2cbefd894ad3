"""``status`` and ``ps``: what the daemon is doing now."""

from __future__ import annotations

from moshi_client import __version__, keys, limits, progress, render
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
    connection, server = ctx.connect()
    with connection:
        status = connection.call("daemon.status")
    if (theirs := server.get("version")) != __version__:
        ctx.warn(
            f"the daemon still runs version {theirs}, this client is {__version__}; "
            "after an upgrade: moshi-client stop, then start it again"
        )
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
    if recording := (status.get("talk") or {}).get("recording"):
        lines.append(("recording", _recording_text(recording)))
    jobs = status.get("downloads") or []
    if told := limits.limits_text(status.get("limits") or {}):
        lines.append(("downloads", told))
    lines += [("download", progress.job_line(job, bar_width=10)) for job in jobs]
    lines += [
        ("worker", f"{w.get('name')}, pid {w.get('pid')}, {w.get('state')}")
        for w in status.get("workers") or []
    ]
    return render.pairs(lines)


def _model_text(model: Json) -> str:
    if not model.get("model"):
        return ", ".join(filter(None, (model.get("about"), str(model.get("state") or "none"))))
    parts = [f"{model['model']} {model.get('quality') or ''}".strip(), str(model.get("state"))]
    if model.get("memory_bytes"):
        parts.append(render.size(model["memory_bytes"]))
    if (model.get("step_ms") or {}).get("p50") is not None:
        parts.append(f"step {render.percentiles(model['step_ms'])}")
    if last := model.get("last_step"):
        parts.append(f"last step {render.milliseconds(last['ms'])} at {last['at']}")
    if fault := model.get("last_fault"):
        parts.append(f"last fault {fault['kind']} at {fault['at']}")
    if model.get("error"):
        parts.append(f"error: {_message(model['error'])}")
    return ", ".join(parts)


def _talk_text(talk: Json) -> str:
    if not talk.get("session"):
        return str(talk.get("state") or "idle")
    state = ", ".join(filter(None, (talk.get("state"), keys.described(talk.get("controls")))))
    return (
        f"{state}, {render.duration(talk.get('seconds'))}, "
        f"{talk.get('frames')} frames, {talk.get('lagged_frames')} lagged, "
        f"{talk.get('underruns')} underruns, latency {render.percentiles(talk.get('latency_ms'))}"
    )


def _recording_text(recording: Json) -> str:
    file = f"{recording.get('folder')}/{recording.get('name')}"
    size = f"{render.duration(recording.get('seconds'))}, {render.size(recording.get('bytes'))}"
    if recording.get("state") == "on":
        return f"ON: both sides of the talk, to {file}, {size}"
    return f"stopped ({recording.get('reason')}), {file}, {size}"


def _ps(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        if args.follow:
            snapshot = connection.call("events.subscribe", {"topics": ["model"]})["snapshot"]
            _emit_ps(ctx, (snapshot.get("model") or {}).get("status") or {}, header=True)
            for _, event in connection.follow(ctx.wait):
                if status := (event.get("data") or {}).get("status"):
                    _emit_ps(ctx, status, header=False)
        _emit_ps(ctx, connection.call("model.status"), header=True)
    return EXIT_OK


def _until(model: Json) -> str | None:
    """When it goes: a time (UTC), ``for ever``, or so long after the use that it is in."""
    if model.get("until") or not model.get("pid"):
        return model.get("until")
    keep_s = model.get("keep_alive_s")
    if keep_s is None:
        return "for ever"
    return f"{render.duration(keep_s)} after its use" if keep_s else "its use is over"


def _emit_ps(ctx: Context, model: Json, *, header: bool) -> None:
    row = (
        model.get("model") or model.get("about"),
        model.get("quality"),
        model.get("state"),
        render.size(model.get("memory_bytes")),
        render.milliseconds((model.get("step_ms") or {}).get("p50")),
        _until(model),
        model.get("pid"),
        model.get("restarts"),
    )
    headers = ("MODEL", "QUALITY", "STATE", "MEMORY", "STEP", "UNTIL", "PID", "RESTARTS")
    text = render.table(headers, [row])
    ctx.emit(model, text if header else text.split("\n", 1)[1])


def _message(error: object) -> str:
    return str(error.get("message")) if isinstance(error, dict) else str(error)
