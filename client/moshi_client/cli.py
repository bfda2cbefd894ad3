"""The command line: argv → command → exit code. Owns the flags that all commands share."""

from __future__ import annotations

import argparse
import functools
import os
import sys

from moshi_client import __version__, usage
from moshi_client.commands import MODULES
from moshi_client.context import Context, discard
from moshi_client.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    ClientError,
    OutputFailed,
    RemoteError,
    Unsendable,
    UsageError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn, TextIO

    Run = Callable[[Context, argparse.Namespace], int]

_EPILOG = """\
exit codes: 0 ok, 1 failed, 2 usage, 3 daemon not running, 4 protocol mismatch, 130 interrupted.
Data goes to stdout, progress and errors to stderr. With --json, stdout carries one object (one a
line with --follow and `events`), and each line of stderr is {"error": {...}} or {"warning": "..."}.
"""


class _Wrapped(argparse.HelpFormatter):
    """Asks for the terminal's width without shutil, whose import costs 3 ms at every start."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_help_columns())


class _Raw(argparse.RawDescriptionHelpFormatter, _Wrapped):
    """The same, for a text with line ends of its own."""


@functools.cache
def _help_columns() -> int:
    try:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns - 2)
    except (OSError, ValueError):
        return 78


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that --json can have its error as JSON."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"See {self.prog} --help.")


class Commands:
    """Collects the commands; each command module adds its own."""

    def __init__(self, root: _Parser, shared: _Parser) -> None:
        self.root = root
        self.parsers: dict[str, argparse.ArgumentParser] = {}
        self._shared = shared
        self._subparsers = root.add_subparsers(
            metavar="COMMAND",
            dest="command",
            required=True,
            prog=root.prog,  # else argparse formats a usage line at every start
        )

    def add(self, name: str, run: Run, summary: str, *, more: str = "") -> argparse.ArgumentParser:
        """Add the command ``name``; ``summary`` is its line in the list, ``more`` its help."""
        parser = self._subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}. {more}".strip(),
            parents=[self._shared],
            allow_abbrev=False,
            formatter_class=_Wrapped,
        )
        parser.set_defaults(run=run)
        self.parsers[name] = parser
        return parser


def build_parser() -> Commands:
    """The whole parser, as the root of its commands."""
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS, formatter_class=_Wrapped)
    shared.add_argument("--json", action="store_true", help="print JSON")
    shared.add_argument("--socket", metavar="PATH", help="the daemon's socket ($MOSHID_SOCKET)")
    shared.add_argument("--home", metavar="DIR", help="the daemon's home ($MOSHID_HOME)")
    parser = _Parser(
        prog="moshi-client",
        description="Control moshid, the service for the full-duplex speech model Moshi.",
        epilog=_EPILOG,
        formatter_class=_Raw,
        parents=[shared],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"moshi-client {__version__}")
    commands = Commands(parser, shared)
    for module in MODULES:
        module.register(commands)
    return commands


def main(
    argv: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    _open_closed_streams()
    fallback = argparse.Namespace(json="--json" in argv)
    ctx = Context(fallback, env or os.environ, out or sys.stdout, err or sys.stderr)
    try:
        commands = build_parser()
        args, unknown = commands.root.parse_known_args(argv)
        if unknown:
            what = f"{args.command} does not know {' '.join(unknown)}"
            raise UsageError(what, f"See moshi-client {args.command} --help.")
        ctx = Context(args, ctx.env, ctx.out, ctx.err)
        run: Run = args.run
        return run(ctx, args)
    except ClientError as e:
        if isinstance(e, RemoteError) and e.kind == "rpc.invalid_params":
            usage.speak_of_flags(e, commands.parsers[args.command])
        if isinstance(e, Unsendable):
            usage.name_the_flag(e, commands.parsers[args.command])
        ctx.report(e)
        if isinstance(e, OutputFailed):
            discard(sys.stdout)
        return e.exit_code
    except KeyboardInterrupt:
        ctx.say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        discard(sys.stdout)  # whoever read it, or stderr, has gone
        discard(sys.stderr)
        return EXIT_FAILED
    except SystemExit as e:  # argparse after --help or --version
        return EXIT_OK if e.code is None else int(e.code)


def _open_closed_streams() -> None:
    """Python has None for a stream that the shell closed (``>&-``); give it one that leads
    nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (for as long as we live)
