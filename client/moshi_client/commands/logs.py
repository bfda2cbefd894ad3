"""``logs``: the daemon's log file, read directly; works while the daemon is down."""

from __future__ import annotations

import json
import os
import sys
from collections import deque

from moshi_client.errors import EXIT_OK, ClientError, DaemonNotRunning

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any, BinaryIO

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]

POLL_INTERVAL_S = 0.2
_SHOWN_FIRST = ("t", "level", "logger", "msg", "exception")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "logs",
        _logs,
        "the daemon's log",
        more='With --json: {"file": ..., "lines": [...]}, or one line each with --follow.',
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it grows")
    parser.add_argument(
        "-n",
        dest="lines",
        type=_count,
        default=20,
        metavar="N",
        help="the last N lines (default: 20)",
    )


def _logs(ctx: Context, args: argparse.Namespace) -> int:
    path = log_file(ctx)
    try:
        file = open(path, "rb")  # noqa: SIM115 (rotation reopens it)
    except FileNotFoundError as e:
        raise ClientError(f"there is no log at {path}", ctx.start_hint()) from e
    except OSError as e:
        raise ClientError(f"the log at {path} cannot be read: {e.strerror}") from e
    with file:
        last = list(deque(file, maxlen=args.lines))
        if not args.follow:
            parsed = [_parse(line) for line in last]
            data = {"file": path, "lines": parsed}
            if parsed or ctx.json:
                ctx.emit(data, "\n".join(_text(entry) for entry in parsed))
            return EXIT_OK
        if last and not last[-1].endswith(b"\n"):  # it is being written
            file.seek(-len(last.pop()), os.SEEK_CUR)
        for line in last:
            _emit_line(ctx, line)
        follow(ctx, path, file)
    return EXIT_OK


def _count(text: str) -> int:
    if not text.isdecimal():
        import argparse

        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines")
    return min(int(text), sys.maxsize)  # the most that a deque takes


def log_file(ctx: Context) -> str:
    """Where the daemon says its log is; where it would be, if it does not run."""
    try:
        connection, server = ctx.connect()
    except DaemonNotRunning:
        return os.path.join(ctx.home, "moshid.log")
    connection.close()
    return str(server.get("log_file") or os.path.join(ctx.home, "moshid.log"))


def follow(ctx: Context, path: str, file: BinaryIO) -> None:
    """Write lines as they come, until interrupted; a rotated file is read to its end first."""
    try:
        while True:
            if line := _whole_line(file):
                _emit_line(ctx, line)
            elif (fresh := _reopened(path, file)) is None:
                ctx.wait(timeout_s=POLL_INTERVAL_S)
            else:
                for line in file.read().splitlines():
                    _emit_line(ctx, line)
                file.close()
                file = fresh
    finally:
        file.close()


def _whole_line(file: BinaryIO) -> bytes:
    """The next line, or nothing while it is not yet written to its end."""
    line = file.readline()
    if line and not line.endswith(b"\n"):
        file.seek(-len(line), os.SEEK_CUR)
        return b""
    return line


def _reopened(path: str, file: BinaryIO) -> BinaryIO | None:
    """The file at ``path`` from its beginning, if the log was rotated away from under ``file``, or
    made empty (logrotate's copytruncate)."""
    try:
        now, ours = os.stat(path), os.fstat(file.fileno())
        if os.path.samestat(now, ours) and ours.st_size >= file.tell():
            return None
        return open(path, "rb")
    except OSError:  # it is not there, or not to be read, yet
        return None


def _emit_line(ctx: Context, line: bytes) -> None:
    entry = _parse(line)
    ctx.emit(entry, _text(entry))


def _parse(line: bytes) -> Json:
    text = line.decode(errors="replace")
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"msg": text.rstrip("\r\n")}


def _text(entry: Json) -> str:
    head = "  ".join(str(entry[k]) for k in ("t", "level", "logger") if k in entry)
    rest = "".join(f" {k}={v}" for k, v in entry.items() if k not in _SHOWN_FIRST)
    text = f"{head}  {entry.get('msg', '')}{rest}".strip()
    return text + (f"\n{entry['exception']}" if "exception" in entry else "")
