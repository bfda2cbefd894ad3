"""The terminal: raw mode, the alternate screen, its size, its signals. Owns that it is given back.

Output goes through a file description of its own that never blocks, since O_NONBLOCK on the
inherited one would be the shell's too; what a slow terminal has not taken yet is kept, and nothing
more is painted until it has. No curses: it would wait for a slow terminal, and not every build of
it knows wide characters.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import time
from types import FrameType, TracebackType

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[?2004h"
"""Alternate screen, no cursor, no wrapping, pastes marked."""

LEAVE = "\x1b[0m\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[?1049l"
LEAVE_PATIENCE_S = 0.5
"""So long a terminal that takes nothing is waited for at the end."""

CHUNK_BYTES = 256
"""What is written at once where writing may block: less than a terminal that is ready takes."""

HANDLED = ("INT", "TERM", "HUP", "QUIT", "WINCH", "TSTP", "CONT")
SIZE_UNKNOWN = (80, 24)


class Terminal:
    """The terminal on ``fd_in`` and ``fd_out``. Use it as a context manager."""

    def __init__(self, fd_in: int, fd_out: int) -> None:
        self.fd_in = fd_in
        self._inherited_out = fd_out
        self.fd_out = fd_out
        self._own_out = False
        self._modes: list[object] | None = None
        self._pending = b""
        self._old_handlers: dict[int, object] = {}
        self._wake_r, self._wake_w = -1, -1
        self._old_wakeup = -1

    @property
    def wake_fd(self) -> int:
        """Readable when a signal has come; ``signals`` takes them."""
        return self._wake_r

    @property
    def has_pending(self) -> bool:
        """Whether the terminal has not taken everything yet."""
        return bool(self._pending)

    def __enter__(self) -> Terminal:
        self._wake_r, self._wake_w = os.pipe()
        for fd in (self._wake_r, self._wake_w):
            os.set_blocking(fd, False)
        self._old_wakeup = signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for name in HANDLED:
            number = getattr(signal, f"SIG{name}")
            self._old_handlers[number] = signal.signal(number, _ignore)
        try:
            self._open_output()
            self.take()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(self._inherited_out)
        except OSError:
            return SIZE_UNKNOWN
        return (columns, rows) if columns and rows else SIZE_UNKNOWN

    def take(self) -> None:
        """Set the modes and the screen; again after somebody else had the terminal."""
        modes = termios.tcgetattr(self.fd_in)
        if self._modes is None:
            self._modes = list(modes)
        # Signals stay on (Ctrl-C, Ctrl-Z); Ctrl-S must not stop the output.
        modes[0] &= ~(termios.IXON | termios.IXOFF)
        modes[3] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd_in, termios.TCSANOW, modes)
        self.write(ENTER.encode())

    def leave(self) -> None:
        """Give the screen and the modes back, whatever the terminal has not taken yet."""
        self._pending = LEAVE.encode()
        deadline_s = time.monotonic() + LEAVE_PATIENCE_S
        while self._pending and (left_s := deadline_s - time.monotonic()) > 0:
            if select.select([], [self.fd_out], [], left_s)[1] and not self.flush():
                break
        self._pending = b""
        if self._modes is not None:
            with contextlib.suppress(termios.error):  # the terminal has gone
                termios.tcsetattr(self.fd_in, termios.TCSANOW, self._modes)  # type: ignore[arg-type]

    def suspend(self) -> None:
        """Stop this process as Ctrl-Z does, and return when it goes on."""
        self.leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, _ignore)
        self.take()

    def signals(self) -> list[int]:
        """The signals that have come."""
        try:
            return list(os.read(self._wake_r, 256))
        except BlockingIOError:
            return []

    def read(self) -> bytes:
        """What was typed; nothing when the terminal has gone."""
        try:
            return os.read(self.fd_in, 1024)
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Have ``data`` written as the terminal takes it."""
        self._pending += data
        self.flush()

    def flush(self) -> bool:
        """Write what can be written now; False when the terminal has gone."""
        while self._pending:
            if not self._own_out and not select.select([], [self.fd_out], [], 0)[1]:
                return True
            part = self._pending if self._own_out else self._pending[:CHUNK_BYTES]
            try:
                self._pending = self._pending[os.write(self.fd_out, part) :]
            except BlockingIOError:
                return True
            except OSError:
                self._pending = b""
                return False
        return True

    def _open_output(self) -> None:
        """Another user's terminal (after ``su``) cannot be opened: then small pieces have to do."""
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
            self.fd_out = os.open(os.ttyname(self._inherited_out), flags)
            self._own_out = True

    def _give_back(self) -> None:
        if self._modes is not None:
            self.leave()
        if self._own_out:
            os.close(self.fd_out)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._wake_r)
        os.close(self._wake_w)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor has told the loop; a handler has to be there for that."""
