"""The command line of ``moshid``: argv → Settings → run. Owns flags and exit codes of the daemon's
side."""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import sys
from collections.abc import Sequence
from typing import Final

from moshid import __version__, settings
from moshid.errors import MoshidError

NO_OUTPUT: Final = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What writing to stdout says when its reader has gone, or its disk is full or broken."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit code (0 ok, 1 failed, 2 usage).

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    _open_closed_streams()
    _let_all_be_printed()
    args = _parser(next(iter(argv), "")).parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except MoshidError as e:
        print(f"moshid: {e.message}\nhint: {e.hint}", file=sys.stderr)
        return 2 if "flag" in e.facts else 1
    except OSError as e:
        if e.errno not in NO_OUTPUT:
            raise
        if e.errno != errno.EPIPE:  # else whoever read it has gone, and knows
            print(f"moshid: the output cannot be written: {e.strerror}", file=sys.stderr)
        # So that nothing tries again, and complains, at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _let_all_be_printed() -> None:
    """Whatever the locale: what stdout cannot encode, as in a path, is escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _open_closed_streams() -> None:
    """What the shell closed (``<&- >&- 2>&-``) leads nowhere, for our children, too: else Python
    has None for it, and the next file to be opened would be it."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number: fd
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "r" if fd == 0 else "w", closefd=False))  # noqa: SIM115


def _seconds(text: str) -> float:
    """Raises ArgumentTypeError unless it is a length of time above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _parser(chosen: str) -> argparse.ArgumentParser:
    """The parser; what ``install`` and ``doctor`` need is imported only for them."""
    parser = argparse.ArgumentParser(
        prog="moshid",
        description="The always-on service for the speech model Moshi. Control it by moshi-client.",
    )
    parser.add_argument("--version", action="version", version=f"moshid {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="run the daemon in the foreground, until SIGTERM or Ctrl-C"
    )
    _add_settings(run)
    run.set_defaults(run=_run)

    demo = commands.add_parser("demo", help="download, load and talk with the small demo model")
    demo.add_argument("--out", default="demo-out", help="folder for WAV files, picture and report")
    demo.add_argument("--seconds", type=_seconds, default=8.0, help="length of each talk")
    demo.add_argument(
        "--no-sound", action="store_true", help="leave out the talk through PortAudio"
    )
    demo.set_defaults(run=_demo)

    for name, text in (
        ("install", "start moshid at every login (launchd or systemd)"),
        ("uninstall", "remove it from launchd or systemd; data stays"),
        ("doctor", "check this machine: what works, what does not, what to do"),
    ):
        command = commands.add_parser(name, help=text)
        _add_settings(command)
        if name == chosen:
            _complete(name, command)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--home", help="where the daemon keeps its state (MOSHID_HOME)")
    parser.add_argument("--socket", help="path of the control socket (MOSHID_SOCKET)")
    parser.add_argument("--log-level", help="debug, info, warning or error")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting, as in config.toml; may be repeated",
    )


def _complete(name: str, command: argparse.ArgumentParser) -> None:
    if name == "doctor":
        from moshid import doctor

        doctor.add_arguments(command)
        command.set_defaults(run=doctor.run_doctor)
        return
    from moshid import install

    install.add_arguments(command)
    run = install.run_install if name == "install" else install.run_uninstall
    command.set_defaults(run=run)


def _run(args: argparse.Namespace) -> int:
    from moshid import daemon

    code = daemon.run(settings.from_arguments(args))
    # All is stopped and written; a thread that waits for a dead line may not hold up the exit.
    os._exit(code)


def _demo(args: argparse.Namespace) -> int:
    from moshid.demo import run

    return run.main(args)
