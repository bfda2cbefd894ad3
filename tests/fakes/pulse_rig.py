"""A private PulseAudio with two null sinks: ``mic``, whose monitor is what we hear, and ``spk``."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from moshid.demo.sound import SoundServerMissing

Samples = npt.NDArray[np.float32]
RATE = 24_000
TIMEOUT_S = 30.0
TOOLS = ("pulseaudio", "pactl", "paplay", "parec")


class PulseServer:
    """Speak into the microphone, listen to the speaker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "PULSE_SERVER": f"unix:{folder / 'run' / 'pulse' / 'native'}",
            "PULSE_COOKIE": str(folder / "cookie"),
            "HOME": str(folder),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._mouth: subprocess.Popen[bytes]
        self._ear: subprocess.Popen[bytes]
        self._more_ears: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._to_say: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._heard = bytearray()
        self._hearing = threading.Condition()

    def start(self) -> None:
        """Start the server and wait until it takes clients."""
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise SoundServerMissing(f"{missing} missing: install pulseaudio, pulseaudio-utils")
        (self.folder / "run" / "pulse").mkdir(parents=True, mode=0o700, exist_ok=True)
        (self.folder / "run").chmod(0o700)
        self.start_again()

    def start_again(self) -> None:
        """Start the server, for the first time or after ``kill``, and both ends."""
        null_sink = f"module-null-sink rate={RATE} channels=1"
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"]
        command += ["--disable-shm=yes", "--log-target=stderr", "--log-level=error"]
        command += ["-L", "module-native-protocol-unix"]
        command += ["-L", f"{null_sink} sink_name=spk", "-L", f"{null_sink} sink_name=mic"]
        with (self.folder / "pulse.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | self.environment, stdout=log, stderr=log
            )
        self._wait_until_ready()
        self.pactl("set-default-sink", "spk")
        self.pactl("set-default-source", "mic.monitor")
        self._open_ends()

    def stop(self) -> None:
        """End the server. Safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        _end(process)
        self._end_ends()

    def _end_ends(self) -> None:
        for child in (self._mouth, self._ear, *self._more_ears):
            _end(child)
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        for child in (self._mouth, self._ear, *self._more_ears):
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._more_ears.clear()

    def plug_in(self, name: str, *, rate: int) -> None:
        """Another speaker, in stereo, and an ear there: see ``_open_ends``."""
        self.pactl("load-module", "module-null-sink", f"sink_name={name}", f"rate={rate}")
        self._more_ears.append(
            self._tool("parec", "-d", f"{name}.monitor", stdout=subprocess.DEVNULL)
        )

    def kill(self) -> None:
        """SIGKILL: all sound devices go."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        (self.folder / "run" / "pulse" / "native").unlink(missing_ok=True)
        self._end_ends()

    def recorders(self) -> int:
        """How many programs hold a microphone open."""
        return len(self.pactl("list", "short", "source-outputs").splitlines())

    def wait_for_recorders(self, count: int) -> None:
        """Until so many hold one."""
        for _attempt in range(100):
            if self.recorders() == count:
                return
            threading.Event().wait(0.1)  # the server tells nobody
        raise TimeoutError(f"{self.recorders()} programs record, not {count}")

    def speak_and_listen(self, pcm: Samples, *, tail_s: float) -> Samples:
        """Speak float32 [n] at 24 kHz; what the speaker played until ``tail_s`` after it."""
        start = len(self._heard)
        wanted = 2 * round((len(pcm) / RATE + tail_s) * RATE)
        self._to_say.put((np.clip(pcm, -1, 1) * 32767).astype("<i2").tobytes())
        with self._hearing:
            self._hearing.wait_for(lambda: len(self._heard) >= start + wanted, TIMEOUT_S)
        heard = np.frombuffer(bytes(self._heard[start : start + wanted]), dtype="<i2")
        return heard.astype(np.float32) / np.float32(32768)

    def _open_ends(self) -> None:
        """Both ends run all the time, as a real card does: an idle null sink would give its monitor
        nothing for two seconds at a time."""
        self._mouth = self._tool("paplay", "--raw", "-d", "mic")
        self._ear = self._tool("parec", "-d", "spk.monitor")
        self._threads = [threading.Thread(target=f) for f in (self._speak, self._listen)]
        for thread in self._threads:
            thread.start()
        with self._hearing:
            self._hearing.wait_for(lambda: len(self._heard) > 0, TIMEOUT_S)

    def _speak(self) -> None:
        assert self._mouth.stdin is not None
        silence = bytes(2 * RATE // 50)
        if sys.platform == "linux":
            fcntl.fcntl(self._mouth.stdin, fcntl.F_SETPIPE_SZ, 4096)
        try:
            while True:
                try:
                    words = self._to_say.get_nowait()
                except queue.Empty:
                    words = silence
                self._mouth.stdin.write(words)
                self._mouth.stdin.flush()
        except (OSError, ValueError):
            return  # the server has been stopped

    def _listen(self) -> None:
        assert self._ear.stdout is not None
        while block := os.read(self._ear.stdout.fileno(), 4096):
            with self._hearing:
                self._heard += block
                self._hearing.notify_all()

    def _tool(
        self, name: str, *arguments: str, stdout: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        options = ["--rate=24000", "--channels=1", "--format=s16le", "--latency-msec=50"]
        return subprocess.Popen(
            [name, *options, *arguments],
            env=os.environ | self.environment,
            stdin=subprocess.PIPE,
            stdout=stdout,
        )

    def pactl(self, *arguments: str) -> str:
        """Ask the server, or tell it."""
        environment = os.environ | self.environment
        answer = subprocess.run(
            ["pactl", *arguments],
            env=environment,
            check=True,
            timeout=TIMEOUT_S,
            stdout=subprocess.PIPE,
        )
        return answer.stdout.decode()

    def _wait_until_ready(self) -> None:
        """``pactl`` itself retries nothing, so ask until the server answers or has ended."""
        assert self._process is not None
        for _attempt in range(100):
            environment = os.environ | self.environment
            asked = subprocess.run(["pactl", "info"], env=environment, capture_output=True)
            if asked.returncode == 0:
                return
            try:
                self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        log = (self.folder / "pulse.log").read_text(errors="replace")
        self.stop()
        raise SoundServerMissing(f"pulseaudio did not start: {log}")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def pulse_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PulseServer]:
    """A running server that child processes find through the environment."""
    server = PulseServer(folder)
    server.start()
    try:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
    finally:
        server.stop()
