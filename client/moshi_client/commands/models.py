"""``models``, ``load`` and ``unload``: what there is, and what is resident."""

from __future__ import annotations

from moshi_client import disposal, progress, render, targets
from moshi_client.errors import EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]


def register(commands: Commands) -> None:
    """Add the three commands."""
    models = commands.add("models", _models, "the models there are, and which are on disk")
    disposal.add_arguments(models)
    load = commands.add("load", _load, "load a model, so that a talk starts at once")
    load.add_argument(
        "model", metavar="MODEL", nargs="?", help="a catalogue name or a Hub repository"
    )
    targets.add_quality(load)
    targets.add_keep_alive(load)
    waiting = load.add_mutually_exclusive_group()
    waiting.add_argument("--wait", action="store_true", help="until it is ready (the default)")
    waiting.add_argument("--detach", action="store_true", help="return at once")
    commands.add("unload", _unload, "free the resident model's memory")


def _models(ctx: Context, args: argparse.Namespace) -> int:
    if disposal.is_asked_for(args):
        return disposal.run(ctx, args)
    connection, _ = ctx.connect(uses_cache=True)
    with connection:
        result = connection.call("model.list")
    ctx.emit(result, _models_table(result["models"]))
    return EXIT_OK


def _models_table(models: list[Json]) -> str:
    rows = [
        (
            m.get("name"),
            m.get("repo"),
            ", ".join(f"{q} {render.size(n)}" for q, n in (m.get("qualities") or {}).items()),
            _on_disk(m),
            render.size(m["disk_bytes"]) if m.get("disk_bytes") else None,
            ", ".join(f"{c['quality']} {render.size(c['bytes'])}" for c in m.get("quantised") or [])
            or None,
            (m.get("auto") or {}).get("quality"),
            "loaded" if m.get("loaded") else "",
            m.get("description"),
        )
        for m in models
    ]
    headers = (
        "NAME",
        "REPO",
        "QUALITIES",
        "ON DISK",
        "SIZE",
        "QUANTISED HERE",
        "AUTO",
        "",
        "DESCRIPTION",
    )
    reasons = [
        f"auto, {m.get('name')}: {m['auto'].get('why')}"
        for m in models
        if m.get("auto") and (m.get("on_disk") or m.get("loaded"))
    ]
    return "\n".join([render.table(headers, rows), *reasons])


def _on_disk(model: Json) -> str | None:
    return ", ".join(model.get("on_disk_qualities") or []) or (
        "yes" if model.get("on_disk") else None
    )


def _load(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect(uses_cache=True)
    params = {"wait": not args.detach} | targets.given(args, "model", "quality", "keep_alive")
    line = progress.ProgressLine(ctx)

    def show(method: str, event: Json) -> None:
        status = (event.get("data") or {}).get("status")
        if method == "event" and event.get("topic") == "model" and status:
            stage = (status.get("progress") or {}).get("stage") or status.get("state")
            fraction = float((status.get("progress") or {}).get("fraction") or 0.0)
            line.show(progress.model_line(status), fraction=fraction, stage=str(stage))

    with connection:
        if not args.detach:
            connection.call("events.subscribe", {"topics": ["model"]}, on_notification=show)
        try:
            status = connection.call("model.load", params, on_notification=show)
        finally:
            line.clear()
    ctx.emit(status, _loaded_text(status))
    return EXIT_OK


def _loaded_text(status: Json) -> str:
    text = f"{status.get('model')} {status.get('quality') or ''}".strip()
    text += f": {status.get('state')}"
    if status.get("load_s") is not None:
        text += f", loaded in {status['load_s']:.1f} s"
    if status.get("warmup_s") is not None:
        text += f", warmed up in {status['warmup_s']:.1f} s"
    if status.get("memory_bytes"):
        text += f", {render.size(status['memory_bytes'])}"
    if status.get("why"):
        text += f"\nwhy {status.get('quality')}: {status['why']}"
    return text


def _unload(ctx: Context, _args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        status = connection.call("model.unload")
    ctx.emit(status, f"model: {status.get('state')}")
    return EXIT_OK
