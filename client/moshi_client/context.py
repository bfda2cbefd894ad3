"""What every command is given: where things are, the connection, and how to speak to the user.

Owns the rule of the streams: data on stdout, everything else on stderr, and with ``--json`` both
are JSON, one object a line.
"""

from __future__ import annotations

import json
import os
import sys

from moshi_client import places, reader, request
from moshi_client.errors import ClientError, DaemonNotRunning, OutputFailed
from moshi_client.wire import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any, TextIO

    Json = dict[str, Any]

_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if n not in (9, 10)}
"""What a terminal takes for commands, but for tab and line end. Names, the log and a model's words
come from elsewhere."""

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}


class Context:
    """The surroundings of one command."""

    def __init__(
        self, args: argparse.Namespace, env: Mapping[str, str], out: TextIO, err: TextIO
    ) -> None:
        self.env = env
        self.out = out
        self.err = err
        self.json: bool = getattr(args, "json", False)
        self._home_flag: str | None = getattr(args, "home", None)
        self._socket_flag: str | None = getattr(args, "socket", None)

    @property
    def home(self) -> str:
        """The daemon's home."""
        return places.home(self.env, self._home_flag)

    @property
    def socket(self) -> str:
        """Path of the daemon's socket."""
        return places.socket_path(self.env, self.home, self._socket_flag)

    @property
    def live(self) -> bool:
        """Whether stderr is a terminal on which a line can be drawn over again."""
        return not self.json and self.err.isatty() and self.env.get("TERM") != "dumb"

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer a question."""
        return not self.json and sys.stdin is not None and sys.stdin.isatty()

    def ask(self, question: str) -> bool:
        """Whether the user says yes; nobody there to ask means no."""
        if not self.can_ask:
            return False
        self.tell(f"{question.translate(_CONTROLS)} [y/N] ")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def connect(self, *, uses_cache: bool = False) -> tuple[Connection, Json]:
        """A connection that has said hello, and what the daemon answered.

        ``uses_cache``: warn when the daemon's Hub cache is another than this shell's.
        """
        try:
            connection = Connection.open(self.socket)
        except DaemonNotRunning as e:
            raise DaemonNotRunning(e.message, self.start_hint()) from e
        server = connection.hello()
        if uses_cache:
            self._compare_caches(server)
        return connection, server

    def start_hint(self) -> str:
        """How to start the daemon that this client looks for."""
        own_home = self._home_flag or self.env.get("MOSHID_HOME")
        prefix = f"MOSHID_HOME={_shell_quoted(self.home)} " if own_home else ""
        flag = f" --socket {_shell_quoted(self.socket)}" if self._socket_flag else ""
        return (
            f"Start it in a terminal: {prefix}moshid run{flag}; "
            f"or as a service: {prefix}moshid install{flag}."
        )

    def emit(self, data: Json, text: str) -> None:
        """One result on stdout: ``data`` with --json, else ``text``."""
        self.write((as_json(data, self.out) if self.json else text) + "\n")

    def write(self, text: str) -> None:
        """Text on stdout, at once, and in it nothing that a terminal takes for a command.

        Raises:
            OutputFailed: it cannot be written. A reader that has gone is a BrokenPipeError.
        """
        try:
            _put(self.out, text if self.json else text.translate(_CONTROLS))
        except BrokenPipeError:
            raise
        except OSError as e:
            raise OutputFailed(f"the output cannot be written: {e.strerror}") from e

    def tell(self, text: str) -> None:
        """Raw text on stderr, at once. What was asked for is done, though its volume is full: then
        nothing more is told. A reader that has gone is a BrokenPipeError."""
        try:
            _put(self.err, text)
        except BrokenPipeError:
            raise
        except OSError:
            discard(self.err)

    def wait(self, fd: int | None = None, timeout_s: float | None = None) -> None:
        """Wait until ``fd`` can be read, or the time (in seconds) is up, to write on stdout then.

        Raises:
            BrokenPipeError: whoever read stdout has gone.
        """
        reader.wait(self.out, fd, timeout_s)

    def say(self, text: str) -> None:
        """Something worth knowing, on stderr; nothing with --json."""
        if not self.json:
            self.tell(text.translate(_CONTROLS) + "\n")

    def warn(self, text: str) -> None:
        """Something to beware of, on stderr."""
        if self.json:
            self.tell(as_json({"warning": text}, self.err) + "\n")
        else:
            told = text.translate(_CONTROLS)
            self.tell(self.colour("warning: ", "yellow", self.err) + told + "\n")

    def report(self, error: ClientError) -> None:
        """An error, on stderr: the message, then what to do about it."""
        hint = f"\nhint: {error.hint}" if error.hint else ""
        told = (error.message + hint).translate(_CONTROLS)
        text = self.colour("error: ", "red", self.err) + told
        try:
            self.tell((as_json({"error": error.to_json()}, self.err) if self.json else text) + "\n")
        except BrokenPipeError:
            discard(self.err)  # the exit code has to do

    def colour(self, text: str, name: str, stream: TextIO) -> str:
        """``text`` in a colour, where ``stream`` shows colours and NO_COLOR is not set."""
        plain = self.env.get("NO_COLOR") or self.env.get("TERM") == "dumb" or not stream.isatty()
        return text if plain else f"\x1b[{_COLOURS[name]}m{text}\x1b[0m"

    def _compare_caches(self, server: Json) -> None:
        theirs, ours = server.get("hf_cache"), places.hf_cache(self.env)
        if theirs and os.path.realpath(theirs) != os.path.realpath(ours):
            self.warn(
                f"the daemon keeps models in {theirs}, this shell's Hugging Face cache is {ours}"
            )


def as_json(data: object, stream: TextIO, indent: int | None = None) -> str:
    """``data`` as JSON for ``stream``: all but ASCII is escaped, as JSON does it, where the stream
    is not of UTF-8, or that cannot say it either (a path), or a terminal would obey it."""
    if (stream.encoding or "utf-8").lower() in ("utf-8", "utf8"):
        text = json.dumps(data, indent=indent, ensure_ascii=False)
        if request.escaped(text) == text == text.translate(_CONTROLS):
            return text
    return json.dumps(data, indent=indent)


def discard(stream: TextIO) -> None:
    """Have what is written to ``stream`` from now on, and at exit, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _put(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # the locale lacks it, or it is a path that is not UTF-8
        code = stream.encoding
        stream.write(text.encode(code, "backslashreplace").decode(code))
    stream.flush()


def _shell_quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)
