"""``downloads``, ``pause``, ``resume`` and ``cancel``: the download jobs."""

from __future__ import annotations

from moshi_client import limits, naming, progress, render
from moshi_client.errors import EXIT_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context
    from moshi_client.wire import Connection

    Json = dict[str, Any]

_DONE = {
    "pause": "paused; what is there is kept",
    "resume": "goes on",
    "cancel": "cancelled; its partial files are deleted",
}


def register(commands: Commands) -> None:
    """Add the four commands."""
    listing = commands.add(
        "downloads",
        _list,
        "the download jobs, and how they use the line",
        more="With JOB, --priority and --limit are that job's; without, --limit, --schedule and "
        "--metered go for all downloads together, at once, and are remembered.",
    )
    listing.add_argument(
        "job", metavar="JOB", nargs="?", help="only this one: a job's id, its model or repository"
    )
    listing.add_argument("--follow", action="store_true", help="go on, one line a change")
    limits.add_terms(listing, "the most that JOB, or all together, may take, as 500k, 2M; or off")
    limits.add_limits(listing)
    commands_by_name = {
        "pause": "pause a download, keeping what is there",
        "resume": "let a paused, failed or cancelled download go on",
        "cancel": "cancel a download and delete its partial files",
    }
    for name, summary in commands_by_name.items():
        parser = commands.add(name, _change, summary)
        parser.add_argument("job", metavar="JOB", help="a job's id, or its model or repository")


def _list(ctx: Context, args: argparse.Namespace) -> int:
    changes = limits.of_job(args) if args.job else limits.limits(args)
    connection, _ = ctx.connect()
    with connection:
        if args.job:
            args.job = naming.one_job(connection, args.command, args.job, changes=bool(changes))
        if changes and args.job:
            _of_job(connection, "download.set", args.job, changes)
        elif changes:
            connection.call("download.limits", changes)
        if args.follow:
            _follow(ctx, connection, args.job)
        if args.job:
            job = _of_job(connection, "download.get", args.job)
            ctx.emit(job, _jobs_table([job["job"]]))
            return EXIT_OK
        result = connection.call("download.list")
    told = limits.limits_text(result.get("limits") or {})
    ctx.emit(result, _jobs_table(result["jobs"]) + (f"\nall downloads: {told}" if told else ""))
    return EXIT_OK


def _follow(ctx: Context, connection: Connection, name: str | None) -> None:
    """Show the jobs, or the one of that name, and each change, until interrupted."""
    snapshot = connection.call("events.subscribe", {"topics": ["download"]})["snapshot"]
    jobs = (snapshot.get("download") or {}).get("jobs") or []
    only = _of_job(connection, "download.get", name)["job"]["id"] if name else None
    for job in jobs:
        if only in (None, job.get("id")):
            ctx.emit({"job": job}, progress.job_line(job))
    for _, event in connection.follow(ctx.wait):
        job = (event.get("data") or {}).get("job")
        if job and only in (None, job.get("id")):
            ctx.emit(event["data"], _change_line(event["data"]))


def _change_line(data: Json) -> str:
    job: Json = data["job"]
    if data.get("forgotten"):
        return f"{job.get('repo') or job.get('id')}: forgotten, its files are deleted"
    if data.get("absorbed_by"):
        return f"{job.get('repo')}: job {job.get('id')} is part of job {data['absorbed_by']} now"
    return progress.job_line(job)


def _jobs_table(jobs: list[Json]) -> str:
    if not jobs:
        return "no downloads"
    rows = [
        (
            job.get("id"),
            progress.job_name(job),
            job.get("state"),
            f"{progress.job_fraction(job) * 100:.0f} %",
            render.size(job.get("bytes_total")),
            render.rate(job.get("rate_bps")),
            render.duration(job.get("eta_s")),
            limits.terms_text(job),
            (job.get("error") or {}).get("message", ""),
        )
        for job in jobs
    ]
    return render.table(
        ("ID", "REPO", "STATE", "DONE", "SIZE", "RATE", "ETA", "TERMS", "ERROR"), rows
    )


def _change(ctx: Context, args: argparse.Namespace) -> int:
    connection, _ = ctx.connect()
    with connection:
        name = naming.one_job(connection, args.command, args.job)
        result = _of_job(connection, f"download.{args.command}", name)
    job = result["job"]
    ctx.emit(result, f"{progress.job_name(job)}: {_DONE[args.command]}")
    return EXIT_OK


def _of_job(connection: Connection, method: str, name: str, changes: Json | None = None) -> Json:
    """A call about one job."""
    return connection.call(method, {"id": name} | (changes or {}))
