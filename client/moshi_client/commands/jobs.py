"""``downloads``, ``pause``, ``resume`` and ``cancel``: the download jobs."""

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

_DONE = {
    "pause": "paused; what is there is kept",
    "resume": "goes on",
    "cancel": "cancelled; its partial files are deleted",
}


def register(commands: Commands) -> None:
    """Add the four commands."""
    listing = commands.add("downloads", _list, "the download jobs")
    listing.add_argument("--follow", action="store_true", help="go on, one line a change")
    commands_by_name = {
        "pause": "pause a download, keeping what is there",
        "resume": "let a paused, failed or cancelled download go on",
        "cancel": "cancel a download and delete its partial files",
    }
    for name, summary in commands_by_name.items():
        parser = commands.add(name, _change, summary)
        parser.add_argument("job", metavar="JOB", help="a job's id, or its model or repository")


def _list(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        if args.follow:
            snapshot = connection.call("events.subscribe", {"topics": ["download"]})["snapshot"]
            for job in (snapshot.get("download") or {}).get("jobs") or []:
                ctx.emit({"job": job}, progress.job_line(job))
            for _, event in connection.follow():
                if (event.get("data") or {}).get("job"):
                    ctx.emit(event["data"], _change_line(event["data"]))
        result = connection.call("download.list")
    ctx.emit(result, _jobs_table(result["jobs"]))
    return EXIT_OK


def _change_line(data: Json) -> str:
    job: Json = data["job"]
    if data.get("forgotten"):
        return f"{job.get('repo') or job.get('id')}: forgotten, its files are deleted"
    return progress.job_line(job)


def _jobs_table(jobs: list[Json]) -> str:
    if not jobs:
        return "no downloads"
    rows = [
        (
            job.get("id"),
            job.get("repo"),
            job.get("state"),
            f"{progress.job_fraction(job) * 100:.0f} %",
            render.size(job.get("bytes_total")),
            render.rate(job.get("rate_bps")),
            render.duration(job.get("eta_s")),
            (job.get("error") or {}).get("message", ""),
        )
        for job in jobs
    ]
    return render.table(("ID", "REPO", "STATE", "DONE", "SIZE", "RATE", "ETA", "ERROR"), rows)


def _change(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        result = connection.call(f"download.{args.command}", {"id": args.job})
    job = result["job"]
    ctx.emit(result, f"{job.get('repo') or job.get('id')}: {_DONE[args.command]}")
    return EXIT_OK
