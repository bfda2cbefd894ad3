"""The control socket with a small table of methods: shapes, limits, cancellation, events."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from moshid.events import QUEUE_EVENTS_MAX
from moshid.rpc.connection import SUBSCRIPTIONS_MAX
from moshid.rpc.dispatch import Dispatcher
from moshid.rpc.server import CONNECTIONS_MAX, RpcServer, peer_uid
from moshid.rpc.wire import LINE_BYTES_MAX
from tests.fakes.small_rpc import METHODS, Client, SmallApp

pytestmark = pytest.mark.asyncio


@pytest.fixture
def app() -> SmallApp:
    return SmallApp()


@pytest.fixture
def server(tmp_path: Path, app: SmallApp) -> RpcServer:
    return RpcServer(tmp_path / "control.sock", Dispatcher(METHODS, app), look_s=0.01)


@pytest_asyncio.fixture
async def path(tmp_path: Path, server: RpcServer) -> AsyncIterator[Path]:
    started = asyncio.Event()
    task = asyncio.create_task(server.run(started=started))
    await started.wait()
    yield tmp_path / "control.sock"
    task.cancel()
    await asyncio.wait({task})
    assert not (tmp_path / "control.sock").exists()


@pytest_asyncio.fixture
async def client(path: Path) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(path, limit=2 * LINE_BYTES_MAX)
    yield Client(reader, writer)
    writer.close()


async def test_the_socket_is_ours_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    a, b = socket.socketpair()
    with a, b:
        assert peer_uid(a) == os.getuid()


async def test_a_cancellation_that_is_sent_as_a_request_is_answered(client: Client) -> None:
    answer = await client.call("$/cancelRequest", {"id": "nobody's"}, 8)
    assert answer == {"jsonrpc": "2.0", "id": 8, "result": {}}


async def test_a_socket_that_was_deleted_is_made_anew(path: Path, client: Client) -> None:
    path.unlink()
    while not path.exists():  # noqa: ASYNC110  what is waited for is the server's own look
        await asyncio.sleep(0.01)
    assert (await client.call("add", {"a": 2}))["result"] == {"sum": 3}, "who is there stays"
    reader, writer = await asyncio.open_unix_connection(path)
    assert (await Client(reader, writer).call("add", {"a": 3}))["result"] == {"sum": 4}
    writer.close()


async def test_a_call_and_its_defaults(client: Client) -> None:
    assert await client.call("add", {"a": 2}) == {"jsonrpc": "2.0", "id": 1, "result": {"sum": 3}}
    assert (await client.call("add", {"a": 2, "b": 5}, "x"))["id"] == "x"


@pytest.mark.parametrize(
    ("line", "kind", "code"),
    [
        (b"{not json\n", "rpc.parse_error", -32700),
        (b"\xff\xfe\n", "rpc.parse_error", -32700),
        (b"[" * 10_000 + b"\n", "rpc.parse_error", -32700),
        (b"3\n", "rpc.invalid_request", -32600),
        (b"[]\n", "rpc.invalid_request", -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"add"}\n', "rpc.invalid_request", -32600),
        (b'{"jsonrpc":"2.0","id":1}\n', "rpc.invalid_request", -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"add"}\n', "rpc.invalid_request", -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"no"}\n', "rpc.method_not_found", -32601),
        (b'{"jsonrpc":"2.0","id":1,"method":"add","params":[1]}\n', "rpc.invalid_params", -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"add"}\n', "rpc.invalid_params", -32602),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"add","params":{"a":"2"}}\n',
            "rpc.invalid_params",
            -32602,
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"add","params":{"a":2,"c":3}}\n',
            "rpc.invalid_params",
            -32602,
        ),
        (b'"' + b"a" * (LINE_BYTES_MAX + 10) + b'"\n', "rpc.line_too_long", -32600),
    ],
)
async def test_bad_input_is_told_and_the_connection_goes_on(
    client: Client, line: bytes, kind: str, code: int
) -> None:
    client.send_raw(line)
    error = (await client.receive())["error"]
    assert (error["data"]["kind"], error["code"]) == (kind, code)
    assert error["data"]["hint"]
    assert (await client.call("add", {"a": 1}))["result"] == {"sum": 2}


async def test_errors_by_kind_and_no_inside_text(client: Client) -> None:
    error = (await client.call("missing"))["error"]
    assert error["data"] | {"hint": ""} == {
        "kind": "model.not_found",
        "hint": "",
        "retryable": False,
        "suggestions": ["y"],
    }
    inside = await client.call("broken")
    assert inside["error"]["code"] == -32603
    assert inside["error"]["data"]["reference"]
    assert "secret" not in json.dumps(inside)


@pytest.mark.parametrize("piece", [b"[]", b"{}", b"[[[[[[]]]]]]", b"0", b'{"a":[1]}'])
async def test_a_line_that_would_unfold_to_megabytes_is_not_parsed(
    client: Client, piece: bytes
) -> None:
    many = b",".join([piece] * (1_000_000 // (len(piece) + 1)))
    head = b'{"jsonrpc": "2.0", "id": 1, "method": "add", "params": {"a": ['
    tracemalloc.start()
    try:
        client.send_raw(head + many + b"]}}\n" + b"[" + many + b"]\n")
        answers = [await client.receive(), await client.receive()]
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {a["error"]["data"]["kind"] for a in answers} == {"rpc.invalid_request"}
    assert all("20,000 commas and" in a["error"]["message"] for a in answers)
    assert peak_bytes < 10 * 2**20, "two lines, here and there, and what carries them"
    assert (await client.call("add", {"a": 1, "b": 2}))["result"] == {"sum": 3}


async def test_a_batch_is_answered_element_by_element(client: Client) -> None:
    good = {"jsonrpc": "2.0", "id": 1, "method": "add", "params": {"a": 1}}
    note = {"jsonrpc": "2.0", "method": "add", "params": {"a": 1}}
    client.send([good, 7, note, {**good, "id": 2, "method": "no"}])
    replies = await client.receive()
    assert [r.get("result") or r["error"]["data"]["kind"] for r in replies] == [
        {"sum": 2},
        "rpc.invalid_request",
        "rpc.method_not_found",
    ]
    client.send([note])
    client.send(note)
    assert (await client.call("add", {"a": 5}))["result"] == {"sum": 6}, "notes are not answered"


async def test_cancelling_a_request(client: Client, app: SmallApp) -> None:
    client.send({"jsonrpc": "2.0", "id": 9, "method": "wait"})
    await app.waiting.wait()
    client.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 9}})
    reply = await client.receive()
    assert (reply["id"], reply["error"]["code"]) == (9, -32800)
    assert app.cancelled.is_set()


async def test_a_disconnect_cancels_waits_and_tells_the_owner(
    client: Client, app: SmallApp
) -> None:
    client.send({"jsonrpc": "2.0", "id": 9, "method": "wait"})
    await app.waiting.wait()
    client.writer.close()
    assert await app.cancelled.wait()
    assert await app.closed.wait()


async def test_a_client_that_asks_and_leaves_at_once_leaves_nothing_behind(
    client: Client, server: RpcServer, app: SmallApp
) -> None:
    await client.call("add", {"a": 1})
    (connection,) = server._connections
    client.send({"jsonrpc": "2.0", "id": 9, "method": "wait"})
    client.writer.close()
    await connection
    assert app.waiting.is_set() == app.cancelled.is_set() == app.closed.is_set()


async def test_a_client_that_does_not_read_is_read_no_further(
    client: Client, path: Path, app: SmallApp
) -> None:
    """Else its unread replies would pile up in the daemon."""
    loop, count = asyncio.get_running_loop(), 1000
    call = '{"jsonrpc": "2.0", "id": "%020000d", "method": "add", "params": {"a": 1}}\n'
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        await loop.sock_connect(deaf, str(path))
        lines = "".join(call % n for n in range(count)).encode()
        sending = asyncio.create_task(loop.sock_sendall(deaf, lines))
        for _ in range(count):  # turns of the loop in which all could be served
            assert (await client.call("add", {"a": 1}))["result"] == {"sum": 2}
        assert app.added - count < 0.8 * count
        replies = 0
        while replies < count:
            replies += (await loop.sock_recv(deaf, 1 << 20)).count(b"\n")
        await sending
    assert app.added == 2 * count, "and nothing is lost"


async def test_a_flood_is_served_line_by_line_while_others_are_answered(
    client: Client, path: Path, app: SmallApp
) -> None:
    flood, count = Client(*await asyncio.open_unix_connection(path)), 500
    call = '{"jsonrpc": "2.0", "id": %d, "method": "add", "params": {"a": 1}}\n'
    flood.send_raw("".join(call % n for n in range(count)).encode())
    await client.call("missing")
    assert app.added < count / 10, "what came at once is not done at once"
    assert [(await flood.receive())["id"] for _ in range(count)] == list(range(count))
    flood.writer.close()


async def test_long_replies_that_nobody_reads_do_not_pile_up(
    client: Client, path: Path, app: SmallApp
) -> None:
    reader, writer = await asyncio.open_unix_connection(path, limit=2 * LINE_BYTES_MAX)
    deaf, count = Client(reader, writer), 40
    call = '{"jsonrpc": "2.0", "id": %d, "method": "big"}\n'
    deaf.send_raw("".join(call % n for n in range(count)).encode())
    for _ in range(5 * count):  # turns of the loop in which all could be served
        await client.call("missing")
    assert app.added <= 6, "1 MiB here and the one over it, and what reader and socket hold"
    for _ in range(count):
        assert len((await deaf.receive())["result"]["text"]) == 1_000_000
    assert app.added == count, "and nothing is lost"
    writer.close()


async def test_a_half_closed_client_still_gets_its_answer(client: Client) -> None:
    client.send({"jsonrpc": "2.0", "id": 1, "method": "add", "params": {"a": 1}})
    client.writer.write_eof()
    assert (await client.receive())["result"] == {"sum": 2}
    assert await client.receive() is None


async def test_a_subscription_answers_with_a_snapshot_then_counts(
    client: Client, app: SmallApp
) -> None:
    app.bus.provide_snapshot("model", lambda: {"state": "ready"})
    reply = await client.call("events.subscribe", {"topics": ["model", "talk.text"]})
    assert reply["result"] == {"subscription": 1, "snapshot": {"model": {"state": "ready"}}}
    app.bus.publish("model", {"n": 1}, key="model")
    app.bus.publish("download", {"n": 2})
    app.bus.publish("talk.text", {"n": 3})
    events = [(await client.receive())["params"] for _ in range(2)]
    assert [(e["seq"], e["topic"], e["data"]) for e in events] == [
        (1, "model", {"n": 1}),
        (2, "talk.text", {"n": 3}),
    ]
    assert (await client.call("events.unsubscribe", {"subscription": 1}))["result"] == {}
    app.bus.publish("model", {"n": 4})
    again = await client.call("events.unsubscribe", {"subscription": 1})
    assert again["error"]["data"]["kind"] == "rpc.invalid_params"


async def test_an_unknown_topic_is_refused(client: Client) -> None:
    error = (await client.call("events.subscribe", {"topics": ["weather"]}))["error"]
    assert error["data"]["kind"] == "rpc.invalid_params"


async def test_a_slow_consumer_is_told_what_it_lost(client: Client, app: SmallApp) -> None:
    await client.call("events.subscribe", {"topics": ["model", "talk.text"]})
    # All in one turn of the loop, so that the pump cannot run in between.
    app.bus.publish("talk.text", {"keep": True})
    for n in range(QUEUE_EVENTS_MAX + 10):
        app.bus.publish("model", {"n": n}, key="model")
    first = await client.receive()
    assert first["method"] == "events.lagged"
    assert first["params"] == {"subscription": 1, "dropped": 11, "seq": 1}
    assert (await client.receive())["params"]["data"] == {"keep": True}, "no state update: kept"
    assert (await client.receive())["params"]["data"] == {"n": 11}


async def test_subscriptions_of_a_connection_are_bounded(client: Client) -> None:
    for n in range(SUBSCRIPTIONS_MAX):
        reply = await client.call("events.subscribe", {"topics": ["model"]})
        assert reply["result"]["subscription"] == n + 1
    error = (await client.call("events.subscribe", {"topics": ["model"]}))["error"]
    assert error["data"]["kind"] == "rpc.too_many_requests"
    await client.call("events.unsubscribe", {"subscription": 3})
    assert "result" in await client.call("events.subscribe", {"topics": ["model"]})


async def test_too_many_clients_are_told_so(path: Path) -> None:
    crowd = [await asyncio.open_unix_connection(path) for _ in range(CONNECTIONS_MAX)]
    clients = [Client(*streams) for streams in crowd]
    assert "result" in await clients[-1].call("add", {"a": 1}), "all of them are served"
    late = Client(*await asyncio.open_unix_connection(path))
    assert (await late.receive())["error"]["data"]["kind"] == "rpc.too_many_requests"
    assert await late.receive() is None
    for one in (*clients, late):
        one.writer.close()
