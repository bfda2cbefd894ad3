"""The demo's private world: a home, a Hub cache, an environment, and the processes that live in it.

Owns starting and surely ending them. Nothing of the user's own moshid or Hugging Face cache is
read or touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from moshi_client.errors import ClientError
from moshi_client.wire import Connection
from moshid.demo.interrupts import held

START_LIMIT_S: Final = 120.0
STOP_LIMIT_S: Final = 30.0
LOG_LINES: Final = 20


class DemoFailed(Exception):
    """A step of the demo did not do what it should."""


class World:
    """A private home below the system's temporary folder (a short path: the socket lies in it)."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moshid-demo-"))
        self.home = self.folder / "home"
        self.socket = self.home / "moshid.sock"
        self.hf_cache = self.folder / "hf" / "hub"
        self.env: dict[str, str] = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MOSHID_", "HF_", "HUGGING"))
        }
        self.env |= {
            "MOSHID_HOME": str(self.home),
            "HF_HOME": str(self.folder / "hf"),
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONUNBUFFERED": "1",
        }
        self._daemon: subprocess.Popen[bytes] | None = None
        self._hub: subprocess.Popen[bytes] | None = None
        self._clients: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            if client.poll() is None:  # we were interrupted, and it has nothing more to say
                client.kill()
                client.wait()
        for process in (self._daemon, self._hub):
            end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def daemon_pid(self) -> int:
        """The running daemon's process id."""
        assert self._daemon is not None
        return self._daemon.pid

    def start_hub(self, root: Path, *, rate_bps: float, cut_at: list[int]) -> str:
        """Serve ``root`` by a Hub on loopback; returns its endpoint, which the daemon will use."""
        arguments = ["--root", str(root), "--rate-bps", str(rate_bps)]
        cuts = ["--cut-at", *map(str, cut_at)] if cut_at else []
        command = [sys.executable, "-m", "moshid.demo.hub", *arguments, *cuts]
        with held():
            self._hub = subprocess.Popen(
                command, env=self.env, stdout=subprocess.PIPE, start_new_session=True
            )
        assert self._hub.stdout is not None
        line = self._hub.stdout.readline()
        if not line:
            raise DemoFailed("the Hub on loopback did not start")
        endpoint: str = json.loads(line)["endpoint"]
        self.env["HF_ENDPOINT"] = endpoint
        return endpoint

    def start_daemon(self, *arguments: str) -> float:
        """Start ``moshid run`` and wait until it answers; returns the seconds that took."""
        began = time.monotonic()
        log = (self.folder / "daemon.stderr").open("ab")
        with log, held():
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "moshid", "run", *arguments],
                env=self.env,
                stderr=log,
                stdout=log,
                start_new_session=True,
            )
        while time.monotonic() - began < START_LIMIT_S:
            if self._daemon.poll() is not None:
                raise DemoFailed(f"the daemon ended at its start:\n{self.daemon_log()}")
            with contextlib.suppress(ClientError), self.connect():
                return time.monotonic() - began
            time.sleep(0.05)
        raise DemoFailed(f"the daemon did not answer:\n{self.daemon_log()}")

    def kill_daemon(self) -> None:
        """SIGKILL, as a power cut would."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGKILL)
        self._daemon.wait()

    def stop_daemon(self) -> int:
        """SIGTERM; returns the exit code."""
        return end(self._daemon)

    def wait_daemon(self) -> int:
        """Wait until it has ended by itself; returns the exit code."""
        assert self._daemon is not None
        return self._daemon.wait(START_LIMIT_S)

    def daemon_log(self) -> str:
        """The last lines that the daemon wrote: on stderr, and into its log."""
        lines: list[str] = []
        for path in (self.folder / "daemon.stderr", self.home / "moshid.log"):
            if path.exists():
                lines += path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(lines)

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to the daemon, greeted."""
        with Connection.open(str(self.socket)) as connection:
            connection.hello()
            yield connection

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One call on a connection of its own."""
        with self.connect() as connection:
            return connection.call(method, dict(params or {}))

    def client(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``moshi-client`` as a user would, on this terminal; Ctrl-C reaches us alone."""
        print(f"$ moshi-client {' '.join(arguments)}", flush=True)
        command = [sys.executable, "-m", "moshi_client", *arguments]
        with held():
            client = subprocess.Popen(command, env=self.env, start_new_session=True)
            self._clients.append(client)
        return client

    def run_client(self, *arguments: str) -> None:
        """Run ``moshi-client`` to its end.

        Raises:
            DemoFailed: it did not exit with 0.
        """
        code = self.client(*arguments).wait()
        if code != 0:
            raise DemoFailed(
                f"moshi-client {arguments[0]} exited with {code}; the daemon's last words:\n"
                f"{self.daemon_log()}"
            )


def end(process: subprocess.Popen[bytes] | None) -> int:
    """SIGTERM, then SIGKILL when it takes too long; returns the exit code."""
    if process is None:
        return 0
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    if process.stdout is not None:
        process.stdout.close()
    return process.wait()
