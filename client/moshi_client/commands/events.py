"""``events``: what happens in the daemon, as it happens."""

from __future__ import annotations

import time

from moshi_client.context import as_json
from moshi_client.errors import EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from moshi_client.cli import Commands
    from moshi_client.context import Context

TOPICS = ("download", "model", "talk", "talk.text", "talk.level", "daemon", "log")
DEFAULT_TOPICS = ("download", "model", "talk", "talk.text", "daemon")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "events",
        _events,
        "what happens in the daemon, as it happens",
        more="The first line is the present state. With --json: one object a line.",
    )
    parser.add_argument(
        "topics",
        metavar="TOPIC",
        nargs="*",
        help=f"any of {', '.join(TOPICS)} (default: all but talk.level and log)",
    )


def _events(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    topics = args.topics or list(DEFAULT_TOPICS)
    with connection:
        subscribed = connection.call("events.subscribe", {"topics": topics})
        snapshot = subscribed.get("snapshot") or {}
        ctx.emit({"snapshot": snapshot}, f"snapshot  {as_json(snapshot, ctx.out)}")
        for method, params in connection.follow(ctx.wait):
            if method == "events.lagged":
                ctx.emit({"lagged": params}, f"lagged    {params.get('dropped')} events were lost")
            elif method == "event":
                clock = time.strftime("%H:%M:%S")
                data = as_json(params.get("data"), ctx.out)
                ctx.emit(params, f"{clock}  {params.get('topic')}  {data}")
    return EXIT_OK
