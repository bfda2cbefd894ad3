"""Single keys of a talk: which key asks for what, and a terminal that gives them at once.

Owns the terminal's mode: it is put back however the block ends, by a signal too, and while the
process is stopped (Ctrl-Z). Ctrl-C stays the terminal's.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

    Json = dict[str, Any]

LEGEND = "keys: m mute, space push to talk, o open microphone, +/- volume, p pause, q stop"
VOLUME_STEP = 0.1
VOLUME_MAX = 2.0
QUIT = "q"


def wanted(key: str, controls: Json) -> Json | None:
    """What ``talk.set`` is to be given for a key, as the controls are; None: the key says nothing.

    The space bar turns push-to-talk on, with the microphone closed; from then on it opens and
    closes it, since a terminal does not tell when a key is let go.
    """
    volume = float(controls.get("volume", 1.0))
    if key == "m":
        return {"muted": not controls.get("muted")}
    if key == " " and not controls.get("push_to_talk"):
        return {"push_to_talk": True, "talking": False}
    if key == " ":
        return {"talking": not controls.get("talking")}
    if key == "o":
        return {"push_to_talk": False, "muted": False}
    if key in ("+", "="):
        return {"volume": round(min(VOLUME_MAX, volume + VOLUME_STEP), 2)}
    if key == "-":
        return {"volume": round(max(0.0, volume - VOLUME_STEP), 2)}
    if key == "p":
        return {"paused": not controls.get("paused")}
    return None


def described(controls: Json | None) -> str:
    """What is not as usual, in a few words; empty when all is."""
    controls = controls or {}
    parts = []
    if controls.get("paused"):
        parts.append("paused")
    if controls.get("muted"):
        parts.append("muted")
    elif controls.get("push_to_talk"):
        parts.append("talking" if controls.get("talking") else "space to talk")
    if controls.get("volume", 1.0) != 1.0:
        parts.append(f"volume {controls['volume']:g}")
    return ", ".join(parts)


class Keyboard:
    """The terminal on stdin, giving each key at once while the block runs; none where there is no
    terminal, or for a process that begins in the background."""

    def __init__(self, *, use: bool) -> None:
        self._use = use
        self._fd: int | None = None
        self._has_keys = False
        self._mode: list[Any] = []
        self._handlers: dict[int, Any] = {}

    @property
    def fd(self) -> int | None:
        """Where keys come from just now: from nowhere in the background, where the terminal is
        another's, and asking for its keys or its mode would stop us. That we were brought to the
        front a shell does not say, so this looks each time."""
        if self._fd is None or not _in_foreground():
            self._has_keys = False
        elif not self._has_keys:
            self._take_keys()
        return self._fd if self._has_keys else None

    def __enter__(self) -> Keyboard:
        if self._use and _in_foreground():
            import termios

            self._fd = sys.stdin.fileno()
            self._mode = termios.tcgetattr(self._fd)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
                self._handlers[number] = signal.signal(number, self._on_signal)
            self._take_keys()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
        self._fd = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def read(self) -> str:
        """The keys that have come; when the terminal has gone there will be no more."""
        if (fd := self.fd) is None:  # what was waited for is somebody else's
            return ""
        try:
            data = os.read(fd, 64)
        except OSError:
            data = b""
        if not data:
            self._fd = None
        # An arrow or another key of several bytes is none of ours.
        return "" if data.startswith(b"\x1b") else data.decode(errors="ignore")

    def _take_keys(self) -> None:
        import termios
        import tty

        assert self._fd is not None
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        self._has_keys = True

    def _give_back(self) -> None:
        import termios

        if (fd := self.fd) is None:
            return
        try:
            termios.tcsetattr(fd, termios.TCSADRAIN, self._mode)
        except termios.error:
            self._mode = []  # the terminal itself has gone
        self._has_keys = False

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Put the terminal back, do what the signal does; after a stop, take the keys again."""
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        if number == signal.SIGTSTP:  # and here it goes on
            signal.signal(number, self._on_signal)
            _ = self.fd


def _in_foreground() -> bool:
    """Whether stdin is a terminal that this process may read."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False
