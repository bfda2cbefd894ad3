"""A sound card made of software: a private JACK server, and someone who speaks and listens there.

Owns the server's life and the probe, a JACK client that plays into PortAudio's input ports and
records its output ports in the same cycle, so that a delay is exact to the sample. Linux only.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]

READY_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 2.0
LEAVE_S_MAX: Final = 5.0
NAMES: Final = tuple(f"moshid-{n}" for n in range(6))
"""A machine's JACK registry has eight places, and a killed server's is free again only for a server
of the same name: so few names, tried in turn."""

SHM: Final = Path("/dev/shm")


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
            self._process = self._spawn()
            if self._becomes_ready(self._process):
                return
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
        jack = _jack()
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

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for left in (*SHM.glob(f"jack_{self.name}_*"), *SHM.glob(f"jack_sem.*_{self.name}_*")):
            left.unlink(missing_ok=True)


class JackProbe:
    """Mouth and ear at the ports of one program. A context manager."""

    def __init__(self, server: JackServer, *, program: str = r"PortAudio.*") -> None:
        """``program`` is a regular expression for the JACK client's name."""
        jack = _jack()
        self._server = server
        self.rate = server.rate
        self._program = re.compile(program)
        self._ports_changed = threading.Event()
        self._done = threading.Event()
        self._reached = threading.Event()
        self._mark = 0
        self._to_play: Samples = np.zeros(0, dtype=np.float32)
        self._recorded: Samples = np.zeros(0, dtype=np.float32)
        self._at = 0
        self._running = False
        self.xruns = 0
        self._client = jack.Client("probe", no_start_server=True, servername=server.name)
        self._mouth = self._client.outports.register("mouth")
        self._ear = self._client.inports.register("ear")
        self._client.set_process_callback(self._process)
        self._client.set_port_registration_callback(self._port_changed)
        self._client.set_xrun_callback(self._xrun)
        self._client.activate()

    def attach(self, timeout_s: float = 60.0, *, speaks: bool = True, hears: bool = True) -> None:
        """Wait for the program's ports; speak into all inputs, listen to the first output.

        A program that only plays or only records has ports of one kind: say which you need.

        Raises:
            TimeoutError: it has not opened its ports in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._ports_changed.clear()
            inputs, outputs = self._find(is_input=True), self._find(is_output=True)
            if (inputs or not speaks) and (outputs or not hears):
                break
            if not self._ports_changed.wait(max(0.0, deadline_s - time.monotonic())):
                raise TimeoutError("no program opened sound ports in time")
        for port in inputs:
            self._connect(self._mouth, port)
        for port in outputs[:1]:
            self._connect(port, self._ear)

    @property
    def is_attached(self) -> bool:
        """Whether what is spoken goes anywhere: the program may have other ports now."""
        return bool(self._client.get_all_connections(self._mouth))

    def play(self, pcm: Samples, *, tail_s: float = 1.0) -> None:
        """From the next cycle on, speak float32 [n] and record, until ``tail_s`` after it."""
        self._to_play = np.pad(np.asarray(pcm, np.float32), (0, round(tail_s * self.rate)))
        self._recorded = np.zeros_like(self._to_play)
        self._at = 0
        self._done.clear()
        self._running = True

    def wait(self, timeout_s: float) -> Samples:
        """What was heard since ``play``, float32, aligned with what was spoken.

        Raises:
            TimeoutError: the server's clock has stopped.
        """
        if not self._done.wait(timeout_s):
            raise TimeoutError("the sound server's clock has stopped")
        return self._recorded

    def reach(self, seconds: float, timeout_s: float = 60.0) -> None:
        """Wait until so much was spoken, by the server's clock.

        Raises:
            TimeoutError: that clock has stopped.
        """
        self._reached.clear()
        self._mark = round(seconds * self.rate)
        if not self._reached.wait(timeout_s):
            raise TimeoutError("the sound server's clock has stopped")

    def heard(self) -> Samples:
        """What was heard so far."""
        return self._recorded[: self._at].copy()

    def close(self) -> None:
        """Leave the server. One that hangs would keep us for ever, and is killed."""
        leaving = threading.Thread(target=self._leave, name="leaving-jack", daemon=True)
        leaving.start()
        leaving.join(LEAVE_S_MAX)
        if leaving.is_alive():
            log.warning("JACK does not let its client go: its server is killed")
            self._server.kill()
            leaving.join(LEAVE_S_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _leave(self) -> None:
        self._client.deactivate()
        self._client.close()

    def _find(self, **direction: bool) -> list[Any]:
        ports = self._client.get_ports(is_audio=True, **direction)
        return [p for p in ports if self._program.fullmatch(p.name.split(":")[0])]

    def _connect(self, source: Any, target: Any) -> None:
        if not any(p == target for p in self._client.get_all_connections(source)):
            self._client.connect(source, target)

    def _process(self, frames: int) -> None:
        mouth, ear = self._mouth.get_array(), self._ear.get_array()
        start, end = self._at, min(self._at + frames, len(self._to_play))
        n = end - start if self._running else 0
        mouth[n:] = 0.0
        if n:
            mouth[:n] = self._to_play[start:end]
            self._recorded[start:end] = ear[:n]
            self._at = end
            if end >= self._mark:
                self._reached.set()
        elif self._running:
            self._running = False
            self._done.set()

    def _port_changed(self, _port: Any, _registered: bool) -> None:
        self._ports_changed.set()

    def _xrun(self, _delay_us: float) -> None:
        self.xruns += 1


def sound_environment(server: JackServer, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with what a program needs to use ``server``."""
    return {**base, **server.environment}


def _jack() -> Any:
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
