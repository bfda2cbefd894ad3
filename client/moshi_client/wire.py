"""JSON-RPC 2.0 over the daemon's Unix socket: one JSON text a line, blocking. Owns the connection.

SIGINT raises KeyboardInterrupt only where no message can be cut in half, so that a connection
stays usable after a Ctrl-C (``talk`` stops its talk and still gets the summary).
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
import time
from collections import deque

from moshi_client import __version__, request
from moshi_client.errors import (
    ClientError,
    ConnectionLost,
    DaemonNotRunning,
    ProtocolMismatch,
    RemoteError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any

    Json = dict[str, Any]
    OnNotification = Callable[[str, Json], None]

PROTOCOL = 1
"""The protocol version that this client speaks."""

HELLO_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10.0


class Connection:
    """A connection to the daemon. Calls are made one at a time; notifications come in between."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._notifications: deque[tuple[str, Json]] = deque()
        self._last_id = 0

    @classmethod
    def open(cls, path: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> Connection:
        """Connect to the socket at ``path``. A daemon that hangs accepts nobody: when as many wait
        as its queue holds, the next one waits for ``timeout_s``.

        Raises:
            DaemonNotRunning: nobody listens there.
            ClientError: somebody does, but not for us, or not in time.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Not settimeout: with it a queue that is full for a moment would be refused at once.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_s))
            sock.connect(path)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0.0))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as e:
            sock.close()
            raise DaemonNotRunning(f"the daemon is not running (nobody listens on {path})") from e
        except BlockingIOError as e:
            sock.close()
            raise _silent() from e
        except OSError as e:
            sock.close()
            raise ClientError(f"cannot connect to {path}: {e.strerror or e}") from e
        return cls(sock)

    def hello(self) -> Json:
        """Greet the daemon and check the protocol; returns what it says of itself.

        Raises:
            ProtocolMismatch: no common version, or no JSON-RPC at all.
        """
        try:
            server = self.call("daemon.hello", greeting(), timeout_s=HELLO_TIMEOUT_S)
        except RemoteError as e:
            if e.kind != "rpc.protocol_mismatch":
                raise
            raise ProtocolMismatch(e.message, e.hint) from e
        check_protocol(server)
        return server

    def call(
        self,
        method: str,
        params: Json | None = None,
        *,
        on_notification: OnNotification | None = None,
        timeout_s: float | None = None,
    ) -> Json:
        """Call a method and wait for its result, handing notifications on as they come.

        Without ``on_notification`` they are kept for ``take``. A Ctrl-C cancels the request in the
        daemon, then raises KeyboardInterrupt.

        Raises:
            RemoteError: the daemon answered with an error.
            ConnectionLost: the daemon went away.
            Unsendable: a parameter cannot be said in JSON; nothing has been sent.
        """
        self._last_id += 1
        request_id = self._last_id
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._send({"id": request_id, "method": method, "params": params or {}})
            return self._wait_for_reply(request_id, deadline, on_notification)
        except KeyboardInterrupt:
            self.notify("$/cancelRequest", {"id": request_id})
            raise

    def notify(self, method: str, params: Json) -> None:
        """Send a notification: nothing comes back."""
        self._send({"method": method, "params": params})

    def wait(self, other: int | None) -> bool:
        """Wait until there may be a notification, or the descriptor ``other`` can be read; whether
        it can."""
        if other is None or self._notifications or b"\n" in self._buffer:
            return False
        either: list[Any] = [self._sock, other]
        return other in select.select(either, [], [])[0]

    def take(self, timeout_s: float | None = None) -> tuple[str, Json] | None:
        """The next notification as (method, params); None when the time is up first."""
        if self._notifications:
            return self._notifications.popleft()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            message = self._receive(deadline)
            if message is None:
                return None
            if "method" in message:
                return message["method"], message.get("params") or {}

    def follow(self, wait: Callable[[int], None] | None = None) -> Iterator[tuple[str, Json]]:
        """Notifications as they come, without end; ConnectionLost when the daemon goes.

        ``wait``: waits until the descriptor that it is given can be read, or raises.
        """
        while True:
            if wait is not None and not self._notifications and b"\n" not in self._buffer:
                wait(self._sock.fileno())
            notification = self.take()
            if notification is not None:
                yield notification

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self._sock.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wait_for_reply(
        self, request_id: int, deadline: float | None, on_notification: OnNotification | None
    ) -> Json:
        while True:
            message = self._receive(deadline)
            if message is None:
                raise _silent()
            if "method" in message:
                notification = (message["method"], message.get("params") or {})
                if on_notification is None:
                    self._notifications.append(notification)
                else:
                    on_notification(*notification)
            elif message.get("id") == request_id or message.get("id", 0) is None:
                if "error" in message:
                    raise RemoteError(message["error"])
                result: Json = message.get("result") or {}
                return result

    def _send(self, message: Json) -> None:
        line = request.line(message)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._sock.sendall(line)
        except OSError as e:
            raise _lost() from e
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _receive(self, deadline: float | None) -> Json | None:
        """The next message; None when the deadline passes first."""
        while (end := self._buffer.find(b"\n")) < 0:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._sock], [], [], timeout)[0]:
                return None
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise ProtocolMismatch("whoever listens on the socket does not speak JSON-RPC")
        return message

    def _fill(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            data = self._sock.recv(65536)
            self._buffer += data
        except OSError as e:
            raise _lost() from e
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not data:
            raise _lost()


def greeting() -> Json:
    """The parameters of daemon.hello."""
    return {"protocol": PROTOCOL, "client": f"moshi-client/{__version__}"}


def check_protocol(server: Json) -> None:
    """Whether the daemon that answered daemon.hello so speaks this client's version.

    Raises:
        ProtocolMismatch: it does not.
    """
    lowest, highest = server.get("min_protocol", 0), server.get("protocol", 0)
    if not lowest <= PROTOCOL <= highest:
        raise ProtocolMismatch(
            f"the daemon (version {server.get('version')}) speaks protocol {lowest} to "
            f"{highest}, this client (version {__version__}) speaks {PROTOCOL}",
            "Bring both to the same version, then restart the daemon.",
        )


def _timeval(seconds: float) -> bytes:
    """A ``struct timeval`` of 64 bits; of 0 s: without end."""
    parts = (int(seconds), round(seconds % 1 * 1e6))
    return b"".join(part.to_bytes(8, sys.byteorder) for part in parts)


def _silent() -> ClientError:
    return ClientError("the daemon does not answer", "See its log: moshi-client logs -n 50.")


def _lost() -> ConnectionLost:
    return ConnectionLost(
        "the daemon went away (the connection was closed)", "Start it again: moshid run."
    )
