"""``bench``: real steps on the resident model, against the 80 ms budget and the memory's speed."""

from __future__ import annotations

from moshi_client import places, render, targets, trace
from moshi_client.errors import EXIT_OK, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "bench",
        _bench,
        "time real steps of the resident model",
        more="With --trace during a talk no step is run: the talk's last minute is written.",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="how many steps (default: 100)")
    parser.add_argument(
        "--compare", action="store_true", default=None, help="run upstream's LmGen beside it"
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        help="write a Chrome trace of these steps and of the last talk (Perfetto loads it)",
    )


def _bench(ctx: Context, args: argparse.Namespace) -> int:
    params = targets.given(args, "steps", "compare") | ({"trace": True} if args.trace else {})
    connection, _ = ctx.connect()
    with connection:
        result = _run(connection, params)
        if args.trace:
            path = places.absolute(args.trace)
            _write(path, connection, result)
            result["trace_file"] = path
    ctx.emit(result, _text(result))
    return EXIT_OK


def _run(connection: Connection, params: Json) -> Json:
    """The benchmark; a talk that is to be traced is no obstacle, but has the model for itself."""
    try:
        return connection.call("model.bench", params)
    except RemoteError as e:
        if e.kind != "talk.busy" or "trace" not in params:
            raise
        return {"steps": 0, "talk": connection.call("talk.status")["session"]}


def _write(path: str, connection: Connection, result: Json) -> None:
    talk = connection.call("talk.trace")
    tracks = [(f"talk {talk['session']}", talk["spans"])] if talk.get("session") else []
    if steps := result.pop("trace", None):
        tracks.append(("bench", steps))
    trace.write(path, trace.chrome(tracks))


def _text(result: Json) -> str:
    rows: list[tuple[str, object]] = []
    if step_ms := result.get("step_ms"):
        rows = [
            ("steps", result["steps"]),
            ("step", render.percentiles(step_ms, ("p50", "p95", "p99", "min", "max"))),
            ("budget", _budget(result)),
            ("memory", render.size(result.get("memory_bytes"))),
        ]
        rows += _bandwidth(result.get("bandwidth"), step_ms["p50"])
        rows += _compared(result.get("compare"))
    elif result.get("talk"):
        rows.append(("steps", f"none: talk {result['talk']} has the model"))
    if "trace_file" in result:
        rows.append(("trace", result["trace_file"]))
    return render.pairs(rows)


def _budget(result: Json) -> str:
    budget_ms, step_ms = result["budget_ms"], result["step_ms"]
    shares = ", ".join(
        f"{name} {step_ms[name] / budget_ms * 100:.0f} %" for name in ("p50", "p95", "p99")
    )
    verdict = "real-time" if result.get("realtime") else "too slow for real time"
    return f"{shares} of {budget_ms:.0f} ms: {verdict}"


def _bandwidth(told: Json | None, p50_ms: float) -> list[tuple[str, object]]:
    if not told:
        return []
    rows: list[tuple[str, object]] = [
        (
            "reads",
            f"{render.size(told['step_bytes'])} a step, {render.size(told['full_step_bytes'])} "
            "with a full cache",
        ),
        (
            "bandwidth",
            f"{render.rate(told['reached_bps'])} reached, {render.rate(told['needed_bps'])} "
            "needed with a full cache",
        ),
    ]
    if floor_ms := told["floor_ms"]:
        speed = render.rate(told["machine_bps"])
        told_floor = (
            f"{render.milliseconds(floor_ms)} a step at the {speed} of this machine's memory"
        )
        rows.append(("floor", f"{told_floor}; p50 is {p50_ms / floor_ms:.1f} times that"))
    return rows


def _compared(told: Json | None) -> list[tuple[str, object]]:
    if not told:
        return []
    ours, theirs = told["nodes"]["ours"], told["nodes"]["lmgen"]
    waits = told["waits"]
    same = "the same tokens" if told["same_tokens"] else "OTHER TOKENS than ours"
    return [
        ("LmGen", f"{render.percentiles(told['lmgen_ms'], ('p50', 'p95', 'p99'))}; {same}"),
        (
            "beside it",
            f"{render.percentiles(told['ours_ms'], ('p50', 'p95', 'p99'))}, "
            f"{told['ratio']:.2f} of LmGen's p50",
        ),
        ("graph", f"{ours} nodes a frame, LmGen {theirs}; {waits['ours']} wait, {waits['lmgen']}"),
    ]
