"""Runs moshi-client as its own process, in an environment of its own, against a fake daemon."""

from __future__ import annotations

import contextlib
import os
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
