"""Mouth and ear at a private JACK server. Owns a client of it.

It plays into a program's input ports and records its output ports in the same cycle, so that a
delay is exact to the sample.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from moshid.demo.sound import JackServer, jack_library

log = logging.getLogger(__name__)

Samples = npt.NDArray[np.float32]
LEAVE_S_MAX: Final = 5.0


class JackProbe:
    """At the ports of one program. A context manager."""

    def __init__(self, server: JackServer, *, program: str = r"PortAudio.*") -> None:
        """``program`` is a regular expression for the JACK client's name."""
        jack = jack_library()
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
