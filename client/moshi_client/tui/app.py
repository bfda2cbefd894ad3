"""The loop between terminal and daemon: waits for either, takes what comes into the state, paints.

Owns time: when the picture is painted (on a change, ``FRAMES_PER_S`` at most, and never while the
terminal still takes the last one), when a lost daemon is tried again, when a key is over. Waits in
select alone, without a time limit when there is nothing to wait for.
"""

from __future__ import annotations

import select
import signal
import termios
import time
from collections.abc import Callable
from dataclasses import replace

from moshi_client import wire
from moshi_client.errors import EXIT_FAILED, ConnectionLost, DaemonNotRunning, ProtocolMismatch
from moshi_client.tui import act, keys, panels, reduce
from moshi_client.tui.link import Link
from moshi_client.tui.paint import Painter
from moshi_client.tui.state import TOPICS, Call, Cancel, Effect, Json, Quit, Redraw, State
from moshi_client.tui.terminal import Terminal
from moshi_client.tui.view import view

FRAMES_PER_S = 15.0
RETRY_FIRST_S, RETRY_MAX_S = 0.25, 2.0
"""A daemon that is away is looked for so often; the wait grows from the one to the other."""

FIRST_PICTURE_S = 0.3
"""So long the first picture waits for the daemon's answer, to have something to show."""

ANSWER_WITHIN_S = 3.0
"""A call that takes longer is a sign of a daemon that hangs, but for those in ``SLOW``."""

SLOW = ("talk.start", "talk.stop")

FATAL_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class App:
    """One run of the terminal UI."""

    def __init__(
        self,
        terminal: Terminal,
        painter: Painter,
        socket_path: str,
        state: State,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal = terminal
        self._painter = painter
        self._path = socket_path
        self._state = state
        self._clock = clock
        self._keys = keys.Keys()
        self._link: Link | None = None
        self._greeted = False
        self._asked_at_s: dict[str, float] = {}
        self._retry_s = RETRY_FIRST_S
        self._try_at_s = clock()
        self._greet_by_s = 0.0
        self._escape_at_s = 0.0
        self._painted: tuple[State, tuple[int, int]] | None = None
        self._painted_at_s = clock() + FIRST_PICTURE_S
        self._code: int | None = None
        self.killed_by: int | None = None

    def run(self) -> int:
        """Until the user quits, or a signal ends it (``killed_by``); the exit code.

        Raises:
            ProtocolMismatch: the daemon came back as one that this client cannot speak with.
        """
        try:
            while self._code is None:
                self._paint()
                self._wait()
                self._keep_time()
        finally:
            if self._link is not None:
                self._link.close()
        return self._code

    def _paint(self) -> None:
        now_s, what = self._clock(), (self._state, self._terminal.size())
        if what == self._painted or self._terminal.has_pending:
            return
        if now_s < self._painted_at_s + 1.0 / FRAMES_PER_S:
            return
        if self._painted is not None and self._painted[1] != what[1]:
            self._painter.forget()
        self._painted, self._painted_at_s = what, now_s
        self._terminal.write(self._painter.paint(view(self._state, *what[1]), what[1][0]))

    def _wait(self) -> None:
        terminal, link = self._terminal, self._link
        readers: list[int] = [terminal.fd_in, terminal.wake_fd]
        writers: list[int] = [terminal.fd_out] if terminal.has_pending else []
        if link is not None:
            readers.append(link.fd)
            writers += [link.fd] if link.has_pending else []
        ready, writable, _ = select.select(readers, writers, [], self._timeout_s())
        if terminal.wake_fd in ready:
            self._on_signals(terminal.signals())
        if terminal.fd_out in writable and not terminal.flush():
            self._code = EXIT_FAILED  # the terminal has gone
        if terminal.fd_in in ready and self._code is None:
            self._on_keyboard(terminal.read())
        if link is not None and link is self._link:
            self._serve(link, is_readable=link.fd in ready, is_writable=link.fd in writable)

    def _timeout_s(self) -> float | None:
        """Until something is due; None when nothing is."""
        due: list[float] = []
        is_stale = self._painted != (self._state, self._terminal.size())
        if is_stale and not self._terminal.has_pending:
            due.append(self._painted_at_s + 1.0 / FRAMES_PER_S)
        if self._link is None:
            due.append(self._try_at_s)
        elif not self._greeted:
            due.append(self._greet_by_s)
        elif self._asked_at_s and not self._state.hangs:
            due.append(min(self._asked_at_s.values()) + ANSWER_WITHIN_S)
        if self._keys.is_waiting:
            due.append(self._escape_at_s)
        if (hold_s := self._state.hold.deadline_s) is not None:
            due.append(hold_s)
        return max(0.0, min(due) - self._clock()) if due else None

    def _keep_time(self) -> None:
        now_s = self._clock()
        if self._link is None and now_s >= self._try_at_s:
            self._connect(now_s)
        elif self._link is not None and not self._greeted and now_s >= self._greet_by_s:
            self._lose()
        asked_at_s = min(self._asked_at_s.values(), default=now_s)
        if now_s >= asked_at_s + ANSWER_WITHIN_S:
            self._state = replace(self._state, hangs=True)
        if self._keys.is_waiting and now_s >= self._escape_at_s:
            self._press(self._keys.flush())
        self._step(act.passed(self._state, now_s))

    def _on_signals(self, numbers: list[int]) -> None:
        for number in numbers:
            if number in FATAL_SIGNALS:
                self.killed_by, self._code = number, EXIT_FAILED
            elif number == signal.SIGINT:
                self._step(act.interrupted(self._state))
            elif number == signal.SIGTSTP:
                self._step(act.suspended(self._state))
                self._take_terminal_back(self._terminal.suspend)
            elif number == signal.SIGCONT:
                self._take_terminal_back(self._terminal.take)

    def _take_terminal_back(self, how: Callable[[], None]) -> None:
        try:
            how()
        except termios.error:
            self._code = EXIT_FAILED  # it has gone meanwhile
        self._perform(Redraw())

    def _on_keyboard(self, data: bytes) -> None:
        if not data:
            self._code = EXIT_FAILED  # the terminal has gone
            return
        self._press(self._keys.feed(data))
        self._escape_at_s = self._clock() + keys.ESCAPE_WAIT_S

    def _press(self, pressed: list[str]) -> None:
        for key in pressed:
            if self._code is None:
                self._step(act.pressed(self._state, key, self._clock()))

    def _step(self, step: reduce.Step) -> None:
        """Take a step: the new state, and what it asks for."""
        self._state, effects = reduce.admit(*step)
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Call(tag, method, params) if self._link is not None:
                self._link.call(tag, method, params)
                if tag not in SLOW:
                    self._asked_at_s[tag] = self._clock()
            case Cancel(tag) if self._link is not None:
                self._link.cancel(tag)
            case Quit(code):
                self._code = code
            case Redraw():
                self._painter.forget()
                self._painted = None

    def _connect(self, now_s: float) -> None:
        try:
            self._link = Link(self._path)
        except DaemonNotRunning:
            self._state, _ = (
                reduce.lost(self._state) if self._state.connected else (self._state, ())
            )
            self._try_at_s = now_s + self._retry_s
            self._retry_s = min(RETRY_MAX_S, self._retry_s * 2)
            return
        self._greeted = False
        self._greet_by_s = now_s + wire.HELLO_TIMEOUT_S
        self._link.call("hello", "daemon.hello", wire.greeting())

    def _lose(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._state.connected:
            self._state, _ = reduce.lost(self._state)
        self._greeted = False
        self._asked_at_s.clear()
        self._try_at_s = self._clock() + self._retry_s
        self._retry_s = min(RETRY_MAX_S, self._retry_s * 2)

    def _serve(self, link: Link, *, is_readable: bool, is_writable: bool) -> None:
        try:
            if is_writable:
                link.flush()
            for told in link.read() if is_readable else ():
                self._on_message(*told)
        except ConnectionLost:
            self._lose()

    def _on_message(self, what: str, name: str, data: Json) -> None:
        if self._state.hangs:
            self._state = replace(self._state, hangs=False)
        if what != "event":
            self._asked_at_s.pop(name, None)
        if name == "hello":
            self._on_hello(what, data)
        elif what == "event":
            self._step(reduce.notified(self._state, name, data))
        elif what == "error":
            self._step(reduce.refused(self._state, name, data))
        else:
            if name == "daemon.status":
                data = {**data, "since": panels.since(data.get("uptime_s"), time.time())}
            self._step(reduce.answered(self._state, name, data))
            if name == "subscribe":
                self._painted_at_s = min(self._painted_at_s, self._clock() - 1.0 / FRAMES_PER_S)

    def _on_hello(self, what: str, data: Json) -> None:
        if what == "error":
            if data.get("kind") == "rpc.protocol_mismatch":
                raise ProtocolMismatch(str(data.get("message")), data.get("hint"))
            raise ConnectionLost(str(data.get("message")))  # it is stopping: try again
        wire.check_protocol(data)
        self._greeted, self._retry_s = True, RETRY_FIRST_S
        self._step(reduce.connected(self._state, data))
        subscribe = Call("subscribe", "events.subscribe", {"topics": list(TOPICS)})
        self._step((self._state, [subscribe, Call("daemon.status", "daemon.status")]))
