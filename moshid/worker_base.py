"""The worker's side of its control socket. Owns request intake, replies and dying with the parent.

A worker is ``python -m moshid.<part>.worker FD``. A reader thread takes messages, answers ``ping``
by itself and queues the rest, so that the main thread, busy in MLX or PortAudio, need not. End of
file on the socket means that the daemon is gone: the process exits at once, or when it has put its
files in order (``end_in_order``).

Messages, both ways::

    {"id": 1, "method": "load", "params": {...}, "fds": 1}      daemon → worker
    {"id": 1, "result": {...}}  |  {"id": 1, "error": {"message", "data": {kind, hint, ...}}}
    {"event": "progress", "data": {...}}                        worker → daemon
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from moshid import ipc, logs
from moshid.errors import MoshidError

log = logging.getLogger(__name__)

ORDER_S_MAX: Final = 2.0


@dataclass(slots=True)
class Request:
    """One call from the daemon. ``fds`` are ours to close."""

    id: int
    method: str
    params: dict[str, Any] = field(default_factory=dict)
    fds: list[int] = field(default_factory=list)


class Control:
    """The control socket. ``take`` gives requests; ``wake_fd`` is readable while there are any."""

    def __init__(
        self, sock: socket.socket, *, on_orphaned: Callable[[], None] | None = None
    ) -> None:
        self._sock = sock
        self._on_orphaned = on_orphaned
        self._requests: deque[Request] = deque()
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._send_lock = threading.Lock()
        self._activity = ("starting", time.monotonic())

    @property
    def wake_fd(self) -> int:
        """Readable while requests may be waiting; ``take`` drains it."""
        return self._wake_r

    @property
    def has_requests(self) -> bool:
        """Whether ``take`` would give one."""
        return bool(self._requests)

    @property
    def busy_with(self) -> str:
        """What the main thread is doing; goes out with each pong, with the seconds it has taken."""
        return self._activity[0]

    @busy_with.setter
    def busy_with(self, what: str) -> None:
        self._activity = (what, time.monotonic())

    @contextlib.contextmanager
    def activity(self, what: str) -> Iterator[None]:
        """Be busy with ``what``, then again with what was before."""
        before = self.busy_with
        self.busy_with = what
        try:
            yield
        finally:
            self.busy_with = before

    def start(self) -> None:
        """Begin to read, and tell the daemon that this worker is up."""
        threading.Thread(target=self._read, name="control", daemon=True).start()
        self.notify("hello", {"pid": os.getpid()})

    def take(self) -> Request | None:
        """The next request, or None; never blocks."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_r, 4096)
        return self._requests.popleft() if self._requests else None

    def reply(self, request: Request, result: dict[str, Any]) -> None:
        """Answer a request."""
        self._send({"id": request.id, "result": result})

    def fail(self, request: Request, error: MoshidError) -> None:
        """Answer a request with an error of the tree."""
        self._send({"id": request.id, "error": {"message": error.message, "data": error.to_data()}})

    def notify(self, event: str, data: dict[str, Any]) -> None:
        """Tell the daemon something it did not ask for."""
        self._send({"event": event, "data": data})

    def tell(self, event: str, data: dict[str, Any]) -> None:
        """As ``notify``, for what may be left out (under 2 kB): a daemon that does not read, being
        stopped itself, holds nobody up."""
        if select.select([], [self._sock], [], 0)[1]:
            self.notify(event, data)

    def _send(self, message: dict[str, Any]) -> None:
        with self._send_lock:
            try:
                self._sock.sendall(ipc.pack_message(message))
            except OSError:
                self._orphaned()

    def _read(self) -> None:
        decoder = ipc.MessageDecoder()
        fds: list[int] = []
        while True:
            try:
                data, new_fds = ipc.recv_with_fds(self._sock)
            except OSError:
                self._orphaned()
            if not data:
                self._orphaned()
            fds += new_fds
            try:
                for message in decoder.feed(data):
                    self._accept(message, fds)
            except ipc.WireError:
                log.exception("the control socket brings garbage")
                self._orphaned()

    def _accept(self, message: dict[str, Any], fds: list[int]) -> None:
        if message["method"] == "ping":
            what, since_s = self._activity
            busy_s = round(time.monotonic() - since_s, 3)
            self._send({"id": message["id"], "result": {"busy_with": what, "busy_s": busy_s}})
            return
        count = message.get("fds", 0)
        mine, fds[:count] = fds[:count], []
        request = Request(message["id"], message["method"], message.get("params", {}), mine)
        self._requests.append(request)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_w, b"\0")

    def _orphaned(self) -> NoReturn:
        if self._on_orphaned is not None:
            self._on_orphaned()
        os._exit(0)


def connect(
    argv: list[str] | None = None, *, on_orphaned: Callable[[], None] | None = None
) -> Control:
    """Set this process up as a worker: signals, logs, the control socket named in ``argv``.

    SIGINT is ignored: a Ctrl-C in the terminal goes to the whole process group, and it is the
    daemon that decides how a worker ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    args = sys.argv[1:] if argv is None else argv
    if len(args) != 2 or not args[0].isdigit():
        sys.exit("moshid workers are started by the daemon: moshid run")
    logs.configure_worker(args[1])
    sock = socket.socket(fileno=int(args[0]))
    sock.setblocking(True)
    return Control(sock, on_orphaned=on_orphaned)


def end_in_order() -> None:
    """An ``on_orphaned`` for a worker with files: has its main thread leave as by SIGTERM, and
    waits for that, since the process exits afterwards; a little while, should it hang.

    Raises:
        SystemExit: in the main thread.
    """
    if threading.current_thread() is threading.main_thread():
        sys.exit(0)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORDER_S_MAX)
