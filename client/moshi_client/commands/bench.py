"""``bench``: real steps on the resident model, against the 80 ms budget."""

from __future__ import annotations

from moshi_client import render, targets
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
    parser = commands.add("bench", _bench, "time real steps of the resident model")
    parser.add_argument("--steps", type=int, metavar="N", help="how many steps (default: 100)")


def _bench(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        result = connection.call("model.bench", targets.given(args, "steps"))
    ctx.emit(result, _text(result))
    return EXIT_OK


def _text(result: Json) -> str:
    step_ms, budget_ms = result["step_ms"], result["budget_ms"]
    share = step_ms["p95"] / budget_ms * 100
    verdict = "real-time" if result.get("realtime") else "too slow for real time"
    return render.pairs(
        [
            ("steps", result["steps"]),
            ("step", render.percentiles(step_ms, ("p50", "p95", "p99", "min", "max"))),
            ("budget", f"p95 takes {share:.0f} % of {budget_ms:.0f} ms: {verdict}"),
            ("memory", render.size(result.get("memory_bytes"))),
        ]
    )
