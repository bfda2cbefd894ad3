"""``tui``: the terminal UI. All of it is imported only when it is asked for."""

from __future__ import annotations

import os
import sys

from moshi_client import request
from moshi_client.commands import talk
from moshi_client.errors import EXIT_FAILED, EXIT_OK, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]

SNAPSHOT_TOPICS = ("daemon", "model", "download", "talk", "log")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "tui",
        _tui,
        "the daemon, its model, downloads and talk on one live screen, with keys",
        more="? shows the keys, q quits. The flags are those of talk: they say what the key t "
        "starts. With --json: what the screen would show, as one object, and no screen.",
    )
    talk.add_arguments(parser)


def _tui(ctx: Context, args: argparse.Namespace) -> int:
    if "-" in (args.in_file, args.out_file):
        raise UsageError(
            "stdin and stdout are the screen's: --in and --out want files", "Name one."
        )
    params = talk.start_params(args)
    request.check(params)
    if ctx.json:
        return _snapshot(ctx)
    fd_in, fd_out = _terminal_fds(ctx)
    connection, hello = ctx.connect()
    connection.close()  # it was to find out; the screen has one that never waits

    from moshi_client.tui.app import App
    from moshi_client.tui.paint import Painter
    from moshi_client.tui.state import State
    from moshi_client.tui.terminal import Terminal

    painter = Painter(
        colours=not ctx.env.get("NO_COLOR"), ascii_only=not _shows_unicode(dict(ctx.env))
    )
    with Terminal(fd_in, fd_out) as terminal:
        app = App(terminal, painter, ctx.socket, State(talk_params=params, daemon=hello))
        code = app.run()
    if app.killed_by is not None:
        os.kill(os.getpid(), app.killed_by)  # as it would have ended without us
        return EXIT_FAILED
    return code


def _terminal_fds(ctx: Context) -> tuple[int, int]:
    """Where keys come from and the screen goes to.

    Raises:
        UsageError: there is no terminal, or one that cannot show a screen.
    """
    hint = "For scripts: moshi-client tui --json, or moshi-client events."
    try:
        fds = sys.stdin.fileno(), ctx.out.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or no file
        raise UsageError("tui needs a terminal", hint) from None
    if not all(map(os.isatty, fds)):
        raise UsageError(
            "tui needs a terminal: for its keys on stdin, for its screen on stdout", hint
        )
    if (term := ctx.env.get("TERM", "")) in ("", "dumb", "unknown"):
        raise UsageError(
            f"tui needs a terminal that can move its cursor, and TERM is {term or 'not set'!r}",
            "Set TERM to what the terminal is, as xterm-256color; or see moshi-client status.",
        )
    return fds


def _shows_unicode(env: dict[str, str]) -> bool:
    """Whether the locale is one of UTF-8. Python has set LC_CTYPE where there was none."""
    names = ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((env[name] for name in names if env.get(name)), "utf-8").lower()
    return "utf-8" in locale or "utf8" in locale


def _snapshot(ctx: Context) -> int:
    connection, _ = ctx.connect()
    with connection:
        told = connection.call("events.subscribe", {"topics": list(SNAPSHOT_TOPICS)})["snapshot"]
        status = connection.call("daemon.status")
    parts = ("model", "talk", "downloads", "limits")
    data: Json = {
        "daemon": {name: value for name, value in status.items() if name not in parts},
        "model": status.get("model"),
        "downloads": (told.get("download") or {}).get("jobs"),
        "limits": status.get("limits"),
        "talk": status.get("talk"),
        "log": (told.get("log") or {}).get("lines"),
    }
    ctx.emit(data, "")
    return EXIT_OK
