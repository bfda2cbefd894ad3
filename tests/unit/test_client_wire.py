"""The client's connection: pieces of lines, interruptions, stray answers, time-outs."""

from __future__ import annotations

import json
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from moshi_client.errors import ClientError, ConnectionLost, ProtocolMismatch, RemoteError
from moshi_client.wire import Connection
from tests.fakes.client_process import short_home


class InterruptedSocket(socket.socket):
    """Ctrl-C arrives while the data is between the kernel and us."""

    interrupt = True

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        if self.interrupt:
            self.interrupt = False
            signal.raise_signal(signal.SIGINT)
        return data


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def line(message: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


def event(number: int) -> dict[str, Any]:
    return {"method": "event", "params": {"seq": number}}


def sent(theirs: socket.socket) -> list[dict[str, Any]]:
    return [json.loads(text) for text in theirs.recv(65536).splitlines()]


def test_a_ctrl_c_cuts_no_message_in_half(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    connection = Connection(InterruptedSocket(fileno=ours.detach()))
    theirs.sendall(line(event(1)) + line(event(2))[:10])
    with pytest.raises(KeyboardInterrupt):
        connection.take()
    theirs.sendall(line(event(2))[10:])
    assert connection.take() == ("event", {"seq": 1})
    assert connection.take() == ("event", {"seq": 2})
    connection.close()


def test_a_ctrl_c_in_a_call_cancels_it_and_its_late_answer_is_skipped(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    connection = Connection(InterruptedSocket(fileno=ours.detach()))
    theirs.sendall(line(event(1)))
    with pytest.raises(KeyboardInterrupt):
        connection.call("model.load")
    assert [m["method"] for m in sent(theirs)] == ["model.load", "$/cancelRequest"]
    theirs.sendall(line({"id": 1, "error": {"message": "cancelled"}}))
    theirs.sendall(line({"id": 2, "result": {"state": "ready"}}))
    assert connection.call("model.status") == {"state": "ready"}
    assert connection.take() == ("event", {"seq": 1})
    connection.close()


def test_notifications_during_a_call_go_to_the_handler_or_are_kept(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    connection, seen = Connection(ours), []
    theirs.sendall(line(event(1)) + line({"id": 1, "result": {}}))
    connection.call("a", on_notification=lambda method, params: seen.append((method, params)))
    assert seen == [("event", {"seq": 1})]
    theirs.sendall(line(event(2)) + line({"id": 2, "result": {}}))
    connection.call("b")
    assert connection.take(0) == ("event", {"seq": 2})
    assert connection.take(0) is None


def test_request_is_json_rpc_2(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(line({"id": 1, "result": {"x": "ü"}}))
    assert Connection(ours).call("m", {"name": "Zoë"}) == {"x": "ü"}
    request = {"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"name": "Zoë"}}
    assert sent(theirs) == [request]


def test_an_error_keeps_its_data(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    data = {"kind": "talk.busy", "hint": "wait", "retryable": True, "owner": "x"}
    theirs.sendall(line({"id": 1, "error": {"code": -32000, "message": "no", "data": data}}))
    with pytest.raises(RemoteError) as caught:
        Connection(ours).call("m")
    assert (caught.value.kind, caught.value.hint) == ("talk.busy", "wait")
    assert caught.value.to_json()["owner"] == "x"


def test_an_error_without_an_id_is_ours(pair: tuple[socket.socket, socket.socket]) -> None:
    """What the daemon answers to a line that it could not read."""
    ours, theirs = pair
    theirs.sendall(line({"id": None, "error": {"code": -32600, "message": "too long"}}))
    with pytest.raises(RemoteError, match="too long"):
        Connection(ours).call("m")


@pytest.mark.parametrize("garbage", [b"no json\n", b"[1]\n", b"\xff\n"])
def test_garbage_is_no_daemon(pair: tuple[socket.socket, socket.socket], garbage: bytes) -> None:
    ours, theirs = pair
    theirs.sendall(garbage)
    with pytest.raises(ProtocolMismatch):
        Connection(ours).call("m")


def test_a_closed_connection_is_lost(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(line(event(1))[:5])
    theirs.close()
    with pytest.raises(ConnectionLost):
        Connection(ours).take()


def test_a_silent_daemon_is_given_up(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(ClientError, match="does not answer"):
        Connection(pair[0]).call("daemon.hello", timeout_s=0)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses where Linux lets wait")
def test_a_daemon_that_accepts_nobody_is_given_up_and_one_that_is_slow_is_not() -> None:
    """A daemon that hangs: its queue fills up, and who comes then would wait for ever."""
    with short_home() as home, socket.socket(socket.AF_UNIX) as hung:
        path, early = str(home / "s"), socket.socket(socket.AF_UNIX)
        hung.bind(path)
        hung.listen(0)
        early.connect(path)  # and the queue is full
        with pytest.raises(ClientError, match="does not answer"):
            Connection.open(path, timeout_s=0.01)
        with early, ThreadPoolExecutor(1) as other:
            late = other.submit(Connection.open, path)
            hung.accept()[0].close()
            late.result().close()
