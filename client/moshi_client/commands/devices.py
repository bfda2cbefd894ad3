"""``devices``: the microphones and speakers that the daemon can use."""

from __future__ import annotations

from moshi_client import render
from moshi_client.errors import EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add("devices", _devices, "the microphones and speakers, for talk --input and --output")


def _devices(ctx: Context, _args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        result = connection.call("audio.devices")
    parts = [_table("INPUT", result["input"]), _table("OUTPUT", result["output"])]
    ctx.emit(result, "\n\n".join(parts))
    if not (result["input"] and result["output"]):
        ctx.say("without both, talk by files: moshi-client talk --in FILE --out FILE")
    return EXIT_OK


def _table(title: str, devices: list[Json]) -> str:
    rows = [
        (
            d.get("index"),
            d.get("name"),
            d.get("hostapi"),
            d.get("channels"),
            f"{d.get('default_rate') or 0:.0f} Hz",
            "default" if d.get("default") else "",
        )
        for d in devices
    ]
    return render.table((title, "NAME", "HOST API", "CHANNELS", "RATE", ""), rows)
