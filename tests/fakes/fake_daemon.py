"""A daemon that says what it is told to: a threaded AF_UNIX server with scripted replies.

The seam for tests of the client. Give ``replies`` by method: a dict is the result; a function
takes the ``Call`` and may send events first; a ``Fault``, given or raised, is the error.
``HELLO`` and an empty ``events.subscribe`` are there already. ``wait_for`` blocks until a method
has been called; ``die`` cuts every connection and the socket, as SIGKILL does.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moshi_client import __version__

Json = dict[str, Any]
WAIT_S = 30.0


class Fault(Exception):
    """Raise in a reply to answer with this error."""

    def __init__(self, kind: str, message: str, *, code: int = -32000, **data: Any) -> None:
        super().__init__(message)
        defaults = {"kind": kind, "hint": f"hint of {kind}", "retryable": False}
        self.error = {"code": code, "message": message, "data": defaults | data}


class Call:
    """One request that came in, and the connection that it came by."""

    def __init__(self, method: str, params: Json, connection: _Peer) -> None:
        self.method = method
        self.params = params
        self._connection = connection

    def event(self, topic: str, data: Json) -> None:
        """Send an event to this connection."""
        self._connection.event(topic, data)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._connection.sock.sendall(data)


Reply = Json | Fault | Callable[[Call], Json]


class _Peer:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._seq = 0
        self._lock = threading.Lock()

    def send(self, message: Json) -> None:
        with self._lock:
            self.sock.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def event(self, topic: str, data: Json) -> None:
        self._seq += 1
        params = {"subscription": 1, "seq": self._seq, "topic": topic, "data": data}
        self.send({"method": "event", "params": params})


class FakeDaemon:
    """Listens on ``path`` between ``start`` and ``stop`` (or as a context manager)."""

    def __init__(self, path: Path, replies: Mapping[str, Reply] | None = None) -> None:
        self.path = path
        self.hello: Json = {
            "protocol": 1,
            "min_protocol": 1,
            "version": __version__,
            "capabilities": [],
            "pid": os.getpid(),
            "home": str(path.parent),
            "socket": str(path),
            "log_file": str(path.parent / "moshid.log"),
            "hf_cache": str(path.parent / "hf" / "hub"),
            "hf_endpoint": "https://huggingface.co",
        }
        self.replies: dict[str, Reply] = {
            "daemon.hello": self.hello,
            "events.subscribe": {"subscription": 1, "snapshot": {}},
        }
        self.replies.update(replies or {})
        self.calls: list[tuple[str, Json]] = []
        self.connections_closed = 0
        self._changed = threading.Condition()
        self._peers: list[_Peer] = []
        self._listener: socket.socket | None = None

    def start(self) -> None:
        """Listen; returns once clients can connect."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def die(self) -> None:
        """Cut every connection and stop listening, leaving the socket's file behind."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        self._peers.clear()

    def stop(self) -> None:
        """Die, and remove the socket's file."""
        self.die()
        self.path.unlink(missing_ok=True)

    def restart(self) -> None:
        """Listen again after ``die``."""
        self.path.unlink(missing_ok=True)
        self.start()

    def __enter__(self) -> FakeDaemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def event(self, topic: str, data: Json) -> None:
        """Send an event to every connection that is still there."""
        for peer in list(self._peers):
            with contextlib.suppress(OSError):
                peer.event(topic, data)

    def wait_for(self, method: str, times: int = 1) -> Json:
        """Block until ``method`` was called ``times`` times; returns the last call's params."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self.params_of(method)) >= times, WAIT_S)
        if not arrived:
            raise AssertionError(f"{method} was not called; calls: {self.calls}")
        return self.params_of(method)[-1]

    def wait_for_disconnect(self) -> None:
        """Block until a client has closed its connection."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.connections_closed > 0, WAIT_S):
                raise AssertionError("the client kept its connection")

    def params_of(self, method: str) -> list[Json]:
        """The parameters of every call of ``method`` so far."""
        return [params for name, params in self.calls if name == method]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            peer = _Peer(sock)
            self._peers.append(peer)
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: _Peer) -> None:
        with peer.sock, contextlib.suppress(OSError), peer.sock.makefile("rb") as lines:
            for line in lines:
                self._answer(peer, json.loads(line))
        with self._changed:
            self.connections_closed += 1
            self._changed.notify_all()

    def _answer(self, peer: _Peer, message: Json) -> None:
        method, params = message["method"], message.get("params", {})
        if "id" not in message:
            self._note(method, params)
            return
        # Other requests of this connection are read while a reply takes its time.
        threading.Thread(
            target=self._reply, args=(peer, message["id"], method, params), daemon=True
        ).start()

    def _reply(self, peer: _Peer, request_id: int, method: str, params: Json) -> None:
        self._note(method, params)
        reply = self.replies.get(method)
        with contextlib.suppress(OSError):
            try:
                if reply is None:
                    raise Fault("rpc.method_not_found", f"no method {method}", code=-32601)
                if isinstance(reply, Fault):
                    raise reply
                result = reply(Call(method, params, peer)) if callable(reply) else reply
            except Fault as fault:
                peer.send({"id": request_id, "error": fault.error})
            else:
                peer.send({"id": request_id, "result": result})

    def _note(self, method: str, params: Json) -> None:
        with self._changed:
            self.calls.append((method, params))
            self._changed.notify_all()
