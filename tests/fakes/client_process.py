"""Runs moshi-client as its own process, in an environment of its own, against a fake daemon."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CLIENT_DIR = Path(__file__).parents[2] / "client"
TIMEOUT_S = 60.0


@contextlib.contextmanager
def short_home() -> Iterator[Path]:
    """A home whose socket's path is short enough for macOS, where tmp_path is not."""
    with tempfile.TemporaryDirectory(prefix="moshid-") as folder:
        yield Path(folder).resolve()


def client_env(home: Path, **more: str) -> dict[str, str]:
    """An environment in which the client looks for the daemon of ``home``."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(CLIENT_DIR),
        "PYTHONUNBUFFERED": "1",
        "MOSHID_HOME": str(home),
        "HF_HOME": str(home / "hf"),
        **more,
    }


def start_client(
    home: Path, *args: str, stdin: int = subprocess.DEVNULL, **env: str
) -> subprocess.Popen[str]:
    """Start ``moshi-client args``; its output is piped."""
    return subprocess.Popen(
        [sys.executable, "-S", "-m", "moshi_client", *args],
        env=client_env(home, **env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_client(home: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``moshi-client args`` to its end."""
    with start_client(home, *args, stdin=subprocess.DEVNULL, **env) as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(args, process.returncode, out, err)


class Screen:
    """A pseudo-terminal as stdout and stderr of a client."""

    def __init__(self) -> None:
        self._fd, self._terminal = pty.openpty()
        self._shown = b""

    def start(self, home: Path, *args: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-m", "moshi_client", *args],
            env=client_env(home, TERM="xterm", NO_COLOR="1"),
            stdin=subprocess.DEVNULL,
            stdout=self._terminal,
            stderr=self._terminal,
        )
        os.close(self._terminal)
        return process

    def read_until(self, marker: bytes) -> None:
        while marker not in self._shown:
            self._shown += os.read(self._fd, 4096)

    def read_to_end(self) -> bytes:
        while True:
            try:
                data = os.read(self._fd, 4096)
            except OSError:  # Linux says EIO when the last writer has gone
                data = b""
            if not data:
                os.close(self._fd)
                return self._shown
            self._shown += data
