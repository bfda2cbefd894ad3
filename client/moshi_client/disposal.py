"""``models --delete`` and ``--prune``: what would go is asked of the daemon, shown, and agreed to
first; only then is it deleted."""

from __future__ import annotations

from moshi_client import render, targets
from moshi_client.errors import EXIT_FAILED, EXIT_OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.context import Context

    Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--delete", metavar="MODEL", help="delete it from the disk; asks first")
    which.add_argument(
        "--prune",
        action="store_true",
        help="delete old revisions and what unfinished downloads left; asks first",
    )
    targets.add_quality(parser, "with --delete: only the repository of this one")
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    parser.add_argument("--dry-run", action="store_true", help="only show what would go")


def is_asked_for(args: argparse.Namespace) -> bool:
    """Whether something is to be deleted.

    Raises:
        UsageError: a flag that belongs to another one stands alone.
    """
    if args.quality is not None and args.delete is None:
        raise UsageError("--quality goes with --delete MODEL")
    asked = args.delete is not None or args.prune
    if not asked and (args.yes or args.dry_run):
        raise UsageError("--yes and --dry-run go with --delete MODEL or --prune")
    return bool(asked)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Show what would go, have the user agree, delete; the exit code."""
    if not (args.yes or args.dry_run or ctx.can_ask):
        raise UsageError(
            "nothing is deleted without a yes, and there is nobody to ask",
            "Add --yes to delete, or --dry-run to see what would go.",
        )
    method, params = "model.prune", {}
    if args.delete is not None:
        method, params = "model.delete", {"model": args.delete} | targets.given(args, "quality")
    connection, _ = ctx.connect(uses_cache=True)
    with connection:
        report = connection.call(method, params | {"dry_run": True})
        nothing = not (report["deleted"] or report["files"] or report["freed_bytes"])
        if args.dry_run or nothing:
            ctx.emit(report, "nothing to delete" if nothing else _table(report))
            return EXIT_OK
        ctx.say(_table(report))
        if not (args.yes or ctx.ask(f"Delete this, {render.size(report['freed_bytes'])} in all?")):
            ctx.say("nothing was deleted")
            return EXIT_FAILED
        report = connection.call(method, params)
    ctx.emit(report, f"deleted; {render.size(report['freed_bytes'])} are free again")
    return EXIT_OK


def _table(report: Json) -> str:
    rows = [(d["repo"], d["revision"][:12], render.size(d["bytes"])) for d in report["deleted"]]
    rows += [(f["path"], None, render.size(f["bytes"])) for f in report["files"]]
    rows.append(("in all", None, render.size(report["freed_bytes"])))
    return render.table(("WHAT", "REVISION", "SIZE"), rows)
