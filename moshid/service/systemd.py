"""The job as a systemd user unit: rendering, checking, loading. Owns systemd's quoting."""

from __future__ import annotations

import configparser
import getpass
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from moshid.errors import ServiceFailed
from moshid.service import files
from moshid.service.job import kill_after_s
from moshid.service.runner import Runner, shown
from moshid.settings import Settings

UNIT: Final = "moshid.service"
_NO_BUS: Final = ", in a login session (or after: loginctl enable-linger {})"


class Systemd:
    """The user's systemd. ``env`` says where its unit files are."""

    name = "systemd"
    log = "journalctl --user -u moshid"

    def __init__(self, runner: Runner, env: Mapping[str, str]) -> None:
        self._runner = runner
        config = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME", "~")) / ".config")
        self.file = Path(config).expanduser() / "systemd" / "user" / UNIT

    def render(
        self, settings: Settings, program: Sequence[str], environment: Mapping[str, str]
    ) -> bytes:
        """The unit file's content."""
        values = {
            "@EXEC_START@": " ".join(quote(word, command=True) for word in program),
            "@ENVIRONMENT@": "\n".join(
                f"Environment={quote(f'{name}={value}')}" for name, value in environment.items()
            ),
            "@TIMEOUT_STOP_S@": str(kill_after_s(settings)),
        }
        text = files.template(f"{UNIT}.in").decode()
        return re.sub(r"@[A-Z_]+@", lambda m: values[m[0]], text).encode()

    def check(self, content: bytes, program: Sequence[str], environment: Mapping[str, str]) -> None:
        """Parse what was rendered: the same program and environment must come out.

        Raises:
            ServiceFailed: they do not.
        """
        text = content.decode()
        parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text)
        found = dict(
            unquote(line.removeprefix("Environment=")).split("=", 1)
            for line in text.splitlines()
            if line.startswith("Environment=")
        )
        words = re.findall(r'"(?:[^"\\]|\\.)*"', parser["Service"]["ExecStart"])
        command = [unquote(word, command=True) for word in words]
        if found != dict(environment) or command != list(program):
            raise ServiceFailed(f"the unit file does not say what it should:\n{text}")

    def verify(self) -> list[str]:
        """Let systemd look at the written file, where it can; returns its complaints."""
        if self._runner.which("systemd-analyze") is None:
            return []
        ran = self._runner.run(["systemd-analyze", "verify", "--user", str(self.file)])
        # It ends with 0 for a line that it ignores, and speaks of other units as well; where it
        # cannot work at all (in a container) it speaks of none.
        return [f"systemd-analyze: {line}" for line in ran.stderr.splitlines() if UNIT in line]

    def load(self, *, changed: bool) -> list[str]:
        """Enable and start the unit; a changed one that runs already is restarted.

        Raises:
            ServiceFailed: no systemctl, no user bus, or the unit does not start.
        """
        by_hand = f"systemctl --user daemon-reload && systemctl --user enable --now {UNIT}"
        self._must_exist(by_hand)
        was_active, _ = self.state()
        self._systemctl("daemon-reload", by_hand=by_hand)
        self._systemctl("enable", "--now", UNIT, by_hand=by_hand)
        if changed and was_active:
            self._systemctl("restart", UNIT, by_hand=by_hand)
        return [
            "started, and again at every login",
            f"to have it run without a login: loginctl enable-linger {_user()}",
        ]

    def unload(self) -> list[str]:
        """Stop and disable the unit.

        Raises:
            ServiceFailed: no systemctl or no user bus; the file is removed by then.
        """
        by_hand = f"systemctl --user disable --now {UNIT}; systemctl --user daemon-reload"
        try:
            self._must_exist(by_hand)
            if self.file.exists():
                self._systemctl("disable", "--now", UNIT, by_hand=by_hand)
        finally:
            self.file.unlink(missing_ok=True)
        self._systemctl("daemon-reload", by_hand=by_hand)
        return ["stopped and disabled"]

    def state(self) -> tuple[bool, str]:
        """Whether the unit is active, and systemd's word for it."""
        if self._runner.which("systemctl") is None:
            return False, "no systemctl here"
        ran = self._runner.run(["systemctl", "--user", "is-active", UNIT])
        return ran.ok, ran.said

    def pid(self) -> int | None:
        """The process that systemd runs; 0: none, None: it does not say."""
        ran = self._runner.run(["systemctl", "--user", "show", "-p", "MainPID", "--value", UNIT])
        return int(ran.stdout) if ran.stdout.strip().isdecimal() else None

    def _systemctl(self, *words: str, by_hand: str) -> None:
        argv = ["systemctl", "--user", *words]
        ran = self._runner.run(argv)
        if not ran.ok:
            where = _NO_BUS.format(_user()) if "bus" in ran.stderr else ""
            raise ServiceFailed(
                f"`{shown(argv)}` failed: {ran.said}", hint=f"By hand: {by_hand}{where}"
            )

    def _must_exist(self, by_hand: str) -> None:
        if self._runner.which("systemctl") is None:
            raise ServiceFailed(
                "systemctl is not there, so nothing starts moshid at login",
                hint=f"With systemd, by hand: {by_hand}. Without it, start `moshid run` yourself.",
            )


def quote(word: str, *, command: bool = False) -> str:
    """A word in systemd's quotes; in a command line, ``$`` is doubled too."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word.replace("$", "$$") if command else word}"'


def unquote(text: str, *, command: bool = False) -> str:
    """What systemd reads in a quoted word."""
    inner = re.sub(r"\\(.)", r"\1", text.strip()[1:-1].replace("%%", "%"))
    return inner.replace("$$", "$") if command else inner


def _user() -> str:
    return os.environ.get("USER") or getpass.getuser()
