"""The flags that say how downloads use the line, and the limits in words. Owns how they are read:
``off`` lifts, and what a flag belongs to (one job, or all downloads) is checked here."""

from __future__ import annotations

from moshi_client import render
from moshi_client.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    Json = dict[str, Any]

PRIORITIES = ("high", "normal", "low")
OFF = "off"


def add_terms(parser: argparse.ArgumentParser, limit_help: str) -> None:
    """The flags --priority and --limit."""
    parser.add_argument("--priority", choices=PRIORITIES, help="who goes first (default: normal)")
    parser.add_argument("--limit", dest="limit_bps", metavar="RATE", help=limit_help)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The flags --schedule and --metered."""
    parser.add_argument(
        "--schedule",
        metavar="HOURS",
        help="when downloads run, as 22:00-07:00 or 'mon-fri 22:00-07:00; sat,sun 00:00-24:00'; "
        "with '; else 200k' at that rate outside; or off",
    )
    parser.add_argument(
        "--metered", choices=("on", OFF), help="on: only downloads of high priority run"
    )


def terms(args: argparse.Namespace) -> Json:
    """What a job is told of --priority and --limit.

    Raises:
        UsageError: the limit is none.
    """
    told: Json = {}
    if args.priority is not None:
        told["priority"] = args.priority
    if args.limit_bps is not None:
        told["limit_bps"] = _rate(args.limit_bps)
    return told


def limits(args: argparse.Namespace) -> Json:
    """What all downloads are told of --limit, --schedule and --metered.

    Raises:
        UsageError: the limit is none, or --priority has no job.
    """
    if args.priority is not None:
        raise UsageError(
            "--priority belongs to a job: name it", "moshi-client downloads lists them."
        )
    told: Json = {}
    if args.limit_bps is not None:
        told["limit_bps"] = _rate(args.limit_bps)
    if args.schedule is not None:
        told["schedule"] = None if args.schedule.strip().lower() == OFF else args.schedule
    if args.metered is not None:
        told["metered"] = args.metered == "on"
    return told


def of_job(args: argparse.Namespace) -> Json:
    """What one job is told.

    Raises:
        UsageError: the limit is none, or a flag is not a job's.
    """
    for flag in ("schedule", "metered"):
        if getattr(args, flag) is not None:
            raise UsageError(f"--{flag} goes for all downloads: name no job with it")
    return terms(args)


def _rate(text: str) -> int | None:
    if text.strip().lower() == OFF:
        return None
    try:
        return render.parse_rate(text)
    except ValueError as e:
        raise UsageError(f"--limit: {text!r} is no rate, as 500k, 2M, 1.5MB/s or off") from e


def limits_text(limits: Json) -> str:
    """The limits in words; empty, if there are none."""
    parts = []
    if limits.get("limit_bps"):
        parts.append(f"at most {render.rate(limits['limit_bps'])}")
    if limits.get("schedule"):
        until = str(limits.get("until") or "").replace("T", " ")[:16]
        change = f", {'open' if limits.get('open') else 'closed'} until {until}" if until else ""
        parts.append(f"hours {limits['schedule']}{change}")
    if limits.get("metered"):
        parts.append("metered: only high priority")
    return "; ".join(parts)


def terms_text(job: Json) -> str | None:
    """A job's priority and limit, where they are not the usual."""
    parts = [str(job["priority"])] if job.get("priority") not in (None, "normal") else []
    if job.get("limit_bps"):
        parts.append(f"{render.rate(job['limit_bps'])} at most")
    return ", ".join(parts) or None
