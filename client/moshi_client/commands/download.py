"""``download``: fetch a model, a repository or the file of a URL, and watch it come in."""

from __future__ import annotations

import json

from moshi_client import limits, places, render, targets
from moshi_client.errors import EXIT_INTERRUPTED, EXIT_OK, ClientError, RemoteError, UsageError
from moshi_client.watch import JobWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]

PATIENCE_S = 600.0
MODEL_FLAGS = ("quality", "revision", "files")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "download",
        _download,
        "fetch a model or a repository into the Hugging Face cache, or any file",
        more="Ctrl-C leaves the download to the daemon, which goes on with it. With --json the "
        "finished job, or one job a line with --follow. A URL (http, https) wants --sha256 and "
        "--output; its file appears there once its digest is right.",
    )
    parser.add_argument(
        "target",
        metavar="MODEL|REPO|URL",
        nargs="?",
        help="a catalogue name, a Hub repository, or any file's address",
    )
    targets.add_quality(parser)
    parser.add_argument(
        "--file",
        dest="files",
        action="append",
        metavar="PATH",
        help="only this file of the repository; repeat",
    )
    parser.add_argument("--revision", metavar="R", help="branch, tag or commit (default: main)")
    parser.add_argument("--profile", choices=targets.PROFILES, help="how to fetch (default: auto)")
    parser.add_argument(
        "--chunk-size", dest="chunk_bytes", metavar="SIZE", help="over the profile's, as 8M"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="over the profile's connections")
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        metavar="PATH",
        help="a file or folder that may hold some of it: what is right is not fetched; repeat",
    )
    limits.add_terms(parser, "the most it may take of the line, as 500k, 2M; or off")
    _add_waiting(parser)
    parser.add_argument("--sha256", metavar="HEX", help="digest of a URL's file")
    parser.add_argument("--output", metavar="PATH", help="where a URL's file goes")


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", action="store_true", help="until it is done (the default)")
    waiting.add_argument("--detach", action="store_true", help="return at once")
    parser.add_argument("--follow", action="store_true", help="with --json: one job a line")
    parser.add_argument(
        "--patience",
        type=targets.number,
        default=PATIENCE_S,
        metavar="S",
        help=f"seconds to wait for a daemon that went away (default: {PATIENCE_S:.0f})",
    )


def _download(ctx: Context, args: argparse.Namespace) -> int:
    params = _params(args)
    connection, _ = ctx.connect(uses_cache=not _is_url(args.target))
    if args.detach:
        with connection:
            result = connection.call("download.start", params)
        job = result["job"]
        ctx.emit(result, f"{_name(job)}: {job['state']}, job {job['id']}")
        ctx.say("it goes on in the daemon; see moshi-client downloads")
        return EXIT_OK
    one_a_line = ctx.json and args.follow
    watch = JobWatch(
        ctx,
        patience_s=args.patience,
        on_job=lambda job: ctx.emit({"job": job}, "") if one_a_line else None,
        writes=one_a_line,
    )
    try:
        job = watch.run(connection, params)
    except KeyboardInterrupt:
        return _detached(ctx, watch.job)
    _raise_unless_done(job)
    if not one_a_line:
        ctx.emit({"job": job, "created": watch.created}, _done_text(job))
    return EXIT_OK


def _params(args: argparse.Namespace) -> Json:
    params = _url(args) if _is_url(args.target) else _model(args)
    params |= targets.given(args, "profile", "workers") | limits.terms(args)
    if args.sources:
        params["from"] = [places.rooted(path) for path in args.sources]
    if args.chunk_bytes:
        try:
            params["chunk_bytes"] = render.parse_size(args.chunk_bytes)
        except ValueError as e:
            raise UsageError(f"--chunk-size: {args.chunk_bytes!r} is no size, as 8M") from e
    return params


def _is_url(target: str | None) -> bool:
    return "://" in (target or "")


def _model(args: argparse.Namespace) -> Json:
    for flag in ("sha256", "output"):
        if getattr(args, flag) is not None:
            raise UsageError(f"--{flag} belongs to a URL, and none is given")
    return targets.model_or_repo(args.target) | targets.given(args, *MODEL_FLAGS)


def _url(args: argparse.Namespace) -> Json:
    for flag in MODEL_FLAGS:
        if getattr(args, flag) is not None:
            raise UsageError(f"--{flag.removesuffix('s')} belongs to a model, not to a URL")
    if not args.sha256 or not args.output:
        raise UsageError("a URL wants both --sha256 HEX and --output PATH")
    if len(args.sha256) != 64 or not set(args.sha256.lower()) <= set("0123456789abcdef"):
        raise UsageError(f"--sha256: {args.sha256!r} is not the 64 hex digits of a SHA-256")
    return {"url": args.target, "sha256": args.sha256, "output": places.rooted(args.output)}


def _detached(ctx: Context, job: Json | None) -> int:
    if job is None:
        ctx.say("interrupted before the download began")
    elif ctx.json:
        ctx.write(json.dumps({"job": job, "detached": True}) + "\n")
    else:
        ctx.say(
            f"detached; job {job['id']} goes on in the daemon: moshi-client downloads "
            f"(end it: moshi-client cancel {job['id']})"
        )
    return EXIT_INTERRUPTED


def _raise_unless_done(job: Json) -> None:
    if job["state"] == "cancelled":
        raise ClientError(f"{_name(job)}: the download was cancelled")
    if job["state"] == "failed":
        error = job.get("error") or {}
        raise RemoteError({"message": f"{_name(job)}: {error.get('message')}", "data": error})


def _name(job: Json) -> str:
    return str(job.get("repo") or job["id"])


def _done_text(job: Json) -> str:
    files = job.get("files") or []
    return (
        f"{_name(job)}: done, {render.size(job.get('bytes_total'))} in "
        f"{render.count(len(files), 'file')}, every digest right; fetched "
        f"{render.size(job.get('bytes_fetched'))}, of that again "
        f"{render.size(job.get('bytes_refetched'))}"
    )
