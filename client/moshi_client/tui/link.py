"""The connection to the daemon, which never waits: messages in, requests out. Owns its buffers.

``wire.Connection`` waits for each answer, and a screen must not; the protocol is the same.
"""

from __future__ import annotations

import contextlib
import json
import socket

from moshi_client.errors import ConnectionLost, DaemonNotRunning, ProtocolMismatch
from moshi_client.tui.state import Json

LINE_BYTES_MAX = 2**20
READ_BYTES = 2**16


class Link:
    """A connection to the socket at ``path``."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            DaemonNotRunning: nobody listens there, or nobody accepts just now.
        """
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.setblocking(False)
        try:
            self._sock.connect(path)
        except OSError as e:
            self._sock.close()
            raise DaemonNotRunning(f"the daemon is not running (nobody listens on {path})") from e
        self._in = bytearray()
        self._out = b""
        self._last_id = 0
        self._tags: dict[int, str] = {}

    @property
    def fd(self) -> int:
        """For select."""
        return self._sock.fileno()

    @property
    def has_pending(self) -> bool:
        """Whether the daemon has not taken everything yet."""
        return bool(self._out)

    def close(self) -> None:
        """Close it. Safe to call twice."""
        self._sock.close()

    def call(self, tag: str, method: str, params: Json) -> None:
        """Ask; the answer comes with ``tag``."""
        self._last_id += 1
        self._tags[self._last_id] = tag
        self._send({"id": self._last_id, "method": method, "params": params})

    def cancel(self, tag: str) -> None:
        """Take back the request of that tag; it is answered all the same."""
        for number, other in self._tags.items():
            if other == tag:
                self._send({"method": "$/cancelRequest", "params": {"id": number}})

    def flush(self) -> None:
        """Write what can be written now.

        Raises:
            ConnectionLost: the daemon went away.
        """
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            return
        except OSError as e:
            raise _lost() from e

    def read(self) -> list[tuple[str, str, Json]]:
        """What has come: ``("event", method, params)``, ``("answer", tag, result)`` or
        ``("error", tag, {kind, message, hint, ...})``.

        Raises:
            ConnectionLost: the daemon went away.
            ProtocolMismatch: it is no daemon of ours.
        """
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as e:
            raise _lost() from e
        if not data:
            raise _lost()
        self._in += data
        *whole, rest = self._in.split(b"\n")
        if len(rest) > 2 * LINE_BYTES_MAX:
            raise _mismatch()
        self._in = rest
        return [told for line in whole if (told := self._parse(bytes(line))) is not None]

    def _parse(self, line: bytes) -> tuple[str, str, Json] | None:
        message = None
        with contextlib.suppress(ValueError):
            message = json.loads(line)
        if not isinstance(message, dict):
            raise _mismatch()
        if "method" in message:
            params = message.get("params")
            return "event", str(message["method"]), params if isinstance(params, dict) else {}
        number = message.get("id")
        tag = self._tags.pop(number, None) if isinstance(number, int) else None
        if tag is None:
            return None
        if isinstance(error := message.get("error"), dict):
            data = error.get("data")
            facts = data if isinstance(data, dict) else {}
            return "error", tag, {"message": error.get("message"), **facts}
        result = message.get("result")
        return "answer", tag, result if isinstance(result, dict) else {}

    def _send(self, message: Json) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False)
        self._out += line.encode("utf-8", "replace") + b"\n"
        with contextlib.suppress(ConnectionLost):  # reading tells
            self.flush()


def _lost() -> ConnectionLost:
    return ConnectionLost("the daemon went away", "Start it again: moshid run.")


def _mismatch() -> ProtocolMismatch:
    return ProtocolMismatch("whoever listens on the socket does not speak JSON-RPC")
