"""A sound card made of software: a private JACK server. Owns its life. Linux only.

Who speaks and listens there is the probe (``probe``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from moshid.demo.interrupts import held

READY_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 2.0
NAMES: Final = tuple(f"moshid-{n}" for n in range(6))
"""A machine's JACK registry has eight places, and a killed server's is free again only for a server
of the same name: so few names, tried in turn."""

SHM: Final = Path("/dev/shm")
SOCKETS: Final = Path("/proc/net/unix")
"""Those that are bound, by path, each of a process that lives."""


class SoundServerMissing(RuntimeError):
    """jackd or its client library is not installed, or the server does not start."""


class JackServer:
    """jackd on its dummy driver, under a name of its own. A context manager."""

    def __init__(self, folder: Path, *, rate: int = 24_000, period: int = 240) -> None:
        """``folder`` takes the log; ``period`` is the block length in samples."""
        self.rate = rate
        self.period = period
        self.name = NAMES[0]
        self.log = folder / "jackd.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to find this server."""
        return {"JACK_DEFAULT_SERVER": self.name, "JACK_NO_START_SERVER": "1"}

    def start(self) -> None:
        """Start it and wait until it takes clients.

        Raises:
            SoundServerMissing: jackd is not installed, or does not come up.
        """
        if shutil.which("jackd") is None:
            raise SoundServerMissing("jackd is missing: install Debian's jackd2")
        for self.name in NAMES:
            if self._is_taken():
                continue
            try:
                with held():
                    self._process = self._spawn()
                if self._becomes_ready(self._process):
                    return
            except BaseException:  # an interrupt, say: nobody gets this server, or will stop it
                self.stop()
                raise
            self.stop()
        raise SoundServerMissing(f"jackd did not start: {self.log.read_text(errors='replace')}")

    def start_again(self) -> None:
        """After ``kill``: it comes back under its name, as a card that is plugged in again.

        Raises:
            SoundServerMissing: it does not come up.
        """
        self._process = self._spawn()
        if not self._becomes_ready(self._process):
            raise SoundServerMissing(f"jackd did not come back: {self.log.read_text()}")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL: jackd hangs when a client has vanished. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill(process)

    @property
    def pid(self) -> int:
        """Of its process, which runs."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send it a signal; stopped, it is a card that says nothing any more."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: the sound card is pulled out."""
        process, self._process = self._process, None
        if process is not None:
            self._kill(process)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = ["jackd", "-n", self.name, "--no-mlock", _realtime(), "-d", "dummy"]
        command += ["-r", str(self.rate), "-p", str(self.period)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"JACK_NO_AUDIO_RESERVATION": "1"},
                start_new_session=True,
            )

    def _becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it takes clients; False when it ends instead, as when the name is taken."""
        jack = jack_library()
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s:
            # libjack offers nothing to wait on before there is a server, but an early end shows.
            try:
                process.wait(0.02)
                return False
            except subprocess.TimeoutExpired:
                pass
            try:
                jack.Client("ready", no_start_server=True, servername=self.name).close()
            except jack.JackOpenError:
                continue
            # Somebody else's server of this name would answer too, while ours gives up.
            return process.poll() is None
        return False

    def _is_taken(self) -> bool:
        """Whether another server has this name: it would answer for ours until that gives up."""
        socket = f"{SHM}/jack_{self.name}_{os.getuid()}_0\n"
        return SOCKETS.exists() and socket in SOCKETS.read_text(errors="replace")

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for left in (*SHM.glob(f"jack_{self.name}_*"), *SHM.glob(f"jack_sem.*_{self.name}_*")):
            left.unlink(missing_ok=True)


def sound_environment(server: JackServer, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with what a program needs to use ``server``."""
    return {**base, **server.environment}


def jack_library() -> Any:
    try:
        import jack
    except (ImportError, OSError) as e:
        raise SoundServerMissing(f"the JACK client library is missing: {e}") from e
    jack.set_error_function(_quiet)
    jack.set_info_function(_quiet)
    return jack


def _realtime() -> str:
    """jackd's flag: its threads, and those that call its clients, go first where we may have it."""
    if sys.platform != "linux":
        return "-r"
    try:
        before = os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_OTHER, before)
    except OSError:
        return "-r"
    return "-R"


def _quiet(_message: str) -> None:
    """libjack would print each failed attempt."""
