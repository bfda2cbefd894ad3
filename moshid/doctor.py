"""``moshid doctor``: looks at this machine and says what works, what does not, and what to do.

Owns the list of checks and their telling; each check is in moshid.checks.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final, TextIO

from moshid import __version__, settings
from moshid.checks import hardware, hub, job, place
from moshid.checks.check import Check, Checker, Machine
from moshid.errors import MoshidError

log = logging.getLogger(__name__)

CHECKS: Final[Sequence[tuple[str, Checker]]] = (
    ("python", place.check_python),
    ("platform", place.check_platform),
    ("memory", hardware.check_memory),
    ("home", place.check_home),
    ("socket", place.check_socket),
    ("daemon", place.check_daemon),
    ("log", place.check_log),
    ("ledger", place.check_ledger),
    ("hub", hub.check_hub),
    ("mlx", hardware.check_mlx),
    ("sound", hardware.check_sound),
    ("microphone", job.check_bundle),
    ("service", job.check_job),
)
"""In the order of the report; one may give several lines, or none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``doctor``, besides those of the settings."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_doctor(args: argparse.Namespace, out: TextIO | None = None) -> int:
    """``moshid doctor``; returns 1 when a check fails, else 0."""
    out = out or sys.stdout
    try:
        machine = Machine(settings=settings.from_arguments(args))
        verdicts = list(examine(machine))
    except MoshidError as e:
        verdicts = [Check("settings", "fail", e.message, e.hint)]
    failed = any(verdict.state == "fail" for verdict in verdicts)
    if args.json:
        listed = [asdict(verdict) for verdict in verdicts]
        out.write(json.dumps({"ok": not failed, "version": __version__, "checks": listed}) + "\n")
    else:
        out.write(report(verdicts))
    return 1 if failed else 0


def examine(machine: Machine, checks: Iterable[tuple[str, Checker]] = CHECKS) -> Iterable[Check]:
    """Every verdict, in order. A check that breaks is a verdict too."""
    for name, check in checks:
        try:
            yield from check(machine)
        except Exception as e:
            log.exception("the check %s broke", name)
            yield Check(name, "fail", f"the check broke: {e}", "Report this, with the text above.")


def report(verdicts: Sequence[Check]) -> str:
    """The verdicts as text: one a line, what to do below it."""
    width = max(len(verdict.name) for verdict in verdicts)
    lines = []
    for verdict in verdicts:
        lines.append(f"{verdict.state:<4}  {verdict.name:<{width}}  {verdict.seen}")
        if verdict.todo:
            lines.append(f"{'':<4}  {'':<{width}}  -> {verdict.todo}")
    counts = {state: sum(v.state == state for v in verdicts) for state in ("ok", "warn", "fail")}
    lines.append(", ".join(f"{number} {state}" for state, number in counts.items()))
    return "\n".join(lines) + "\n"
