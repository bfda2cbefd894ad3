"""A terminal that a test can read: ``moshi-client tui`` in a pseudo-terminal, its screen in pyte.

``wait_for`` blocks until the screen shows what is wanted; there are no sleeps.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import pyte

WAIT_S = 30.0


class TuiScreen:
    """The client with a screen of its own. A context manager; at its end the client is killed."""

    def __init__(
        self,
        env: Mapping[str, str],
        *arguments: str,
        columns: int = 80,
        rows: int = 24,
        command: tuple[str, ...] = (sys.executable, "-m", "moshi_client", "tui"),
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._fd, self._terminal = pty.openpty()
        self.raw = b""
        self._set_size(columns, rows)
        self.modes_before = termios.tcgetattr(self._terminal)
        self.process = subprocess.Popen(
            [*command, *arguments],
            env={"TERM": "xterm-256color", **env},
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=subprocess.PIPE,
            preexec_fn=_own_terminal,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        os.close(self._fd)
        os.close(self._terminal)

    @property
    def text(self) -> str:
        """The screen's lines."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    @property
    def modes(self) -> list[object]:
        """The terminal's modes now."""
        return list(termios.tcgetattr(self._terminal))

    def stop_output(self) -> None:
        """Have the terminal take nothing more, as a line that stalls."""
        termios.tcflow(self._terminal, termios.TCOOFF)

    def start_output(self) -> None:
        """Have it go on."""
        termios.tcflow(self._terminal, termios.TCOON)

    def press(self, keys: str | bytes) -> None:
        """Type."""
        os.write(self._fd, keys.encode() if isinstance(keys, str) else keys)

    def resize(self, columns: int, rows: int) -> None:
        """Another size; the client is told by SIGWINCH."""
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)

    def wait_for(self, *wanted: str, gone: str = "") -> str:
        """Block until the screen holds all of ``wanted`` and not ``gone``; returns its text."""
        return self.wait_until(
            lambda: all(w in self.text for w in wanted) and (not gone or gone not in self.text),
            f"{wanted}{f' without {gone!r}' if gone else ''}",
        )

    def wait_until(self, is_so: Callable[[], bool], what: str) -> str:
        """Block until it is so, reading what the client draws."""
        deadline_s = time.monotonic() + WAIT_S
        while not is_so():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not self.take(left_s):
                raise AssertionError(f"waited in vain for {what}; the screen:\n{self.text}")
        return self.text

    def take(self, timeout_s: float) -> bool:
        """Read what has been drawn, waiting for some; whether there was any."""
        if not select.select([self._fd], [], [], timeout_s)[0]:
            return False
        data = os.read(self._fd, 65536)
        self.raw += data
        self._stream.feed(data)
        return True

    def wait_exit(self) -> int:
        """Block until the client has ended, reading on; its exit code."""
        deadline_s = time.monotonic() + WAIT_S
        while self.process.poll() is None and time.monotonic() < deadline_s:
            self.take(0.02)
        while self.take(0):
            pass
        return self.process.wait(1.0)

    def stderr(self) -> str:
        """What the client wrote there; after its end."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _own_terminal() -> None:
    """In the child: a session whose controlling terminal is its stdin, so that keys are signals."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
