"""One client's connection: lines in, one task a request, replies and events out, in order.

Owns reading with a limit, batches, cancellation and the connection's subscriptions. Replies wait
for a slow client and are never dropped; events wait in bounded subscriptions, which drop.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import select
import socket
from collections.abc import Callable
from typing import Any, Final

from moshid.errors import (
    InvalidRequest,
    MoshidError,
    RequestCancelled,
    TooManyRequests,
)
from moshid.events import Subscription
from moshid.rpc import dispatch
from moshid.rpc.caller import Caller
from moshid.rpc.wire import encode, read_line

log = logging.getLogger(__name__)

PENDING_MAX: Final = 256
"""Requests of one connection that may be unanswered at a time."""

LINES_MAX: Final = 2 * PENDING_MAX
"""Lines whose replies are not written yet: a client that reads nothing is read no further. Requests
that wait for something cannot fill this up, so a cancellation always gets through."""

UNWRITTEN_BYTES_MAX: Final = 1024 * 1024
"""The same for replies by their size: a batch's may take megabytes."""

TURNS_A_LINE: Final = 8
"""Turns of the event loop that a line has to be answered in before the next one is read. What needs
no thread takes six: so hundreds of lines that came at once are neither in memory at once nor done
in one turn, with everybody else waiting. One that waits for something holds up the next no longer.
"""

BATCH_MAX: Final = 100
SUBSCRIPTIONS_MAX: Final = 16
"""Each holds a bounded queue of events."""

HALF_CLOSED_CHECK_S: Final = 0.2

_ids = itertools.count(1)


class Connection:
    """Serves one connected client until it leaves. Implements ``ConnectionHandle``."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        dispatcher: dispatch.Dispatcher[Any],
    ) -> None:
        self.id = next(_ids)
        self.client = f"connection {self.id}"
        self._reader = reader
        self._writer = writer
        self._dispatcher = dispatcher
        self._write_lock = asyncio.Lock()
        self._pending: dict[Any, asyncio.Task[Any]] = {}
        self._lines: set[asyncio.Task[None]] = set()
        self._unanswered = 0
        self._unwritten_bytes = 0
        self._subscriptions: dict[int, Subscription] = {}
        self._pumps: dict[int, asyncio.Task[None]] = {}
        self._subscription_ids = itertools.count(1)
        self._close_callbacks: list[Callable[[], None]] = []
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Serve until the client is gone, or this task is cancelled."""
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._read_lines()
                await self._until_hung_up()
                for task in [*self._lines, *self._pumps.values()]:
                    task.cancel()
        except* ConnectionError:
            log.debug("connection %d broke", self.id)
        finally:
            for callback in self._close_callbacks:
                callback()
            for subscription in self._subscriptions.values():
                subscription.close()
            self._writer.close()

    def on_close(self, callback: Callable[[], None]) -> None:
        """See ``ConnectionHandle``."""
        self._close_callbacks.append(callback)

    def open_subscription(self, subscription: Subscription) -> int:
        """See ``ConnectionHandle``."""
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            subscription.close()
            raise TooManyRequests(f"this connection has {SUBSCRIPTIONS_MAX} subscriptions already")
        number = next(self._subscription_ids)
        self._subscriptions[number] = subscription
        return number

    def start_subscription(self, number: int) -> None:
        """See ``ConnectionHandle``."""
        if number in self._subscriptions:
            self._pumps[number] = self._group.create_task(self._pump(number))

    def close_subscription(self, number: int) -> bool:
        """See ``ConnectionHandle``."""
        subscription = self._subscriptions.pop(number, None)
        if subscription is None:
            return False
        subscription.close()
        if (pump := self._pumps.pop(number, None)) is not None:
            pump.cancel()
        return True

    async def _read_lines(self) -> None:
        while await self._read_one():
            while self._lines and self._is_full():
                await asyncio.wait(self._lines, return_when=asyncio.FIRST_COMPLETED)

    async def _read_one(self) -> bool:
        """Read a line and begin to serve it; whether there was one. In a frame of its own, so that
        nothing of a line is kept while the next one is waited for."""
        try:
            line = await read_line(self._reader)
            if line is None:
                return False
            if not line.strip():
                return True
            value = dispatch.decode(line)
        except MoshidError as e:
            await self._send(dispatch.error_reply(None, e))
            return True
        task = self._group.create_task(self._serve_line(value))
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        del line, value  # a megabyte may become twenty
        for _ in range(TURNS_A_LINE):
            if task.done():
                break
            await asyncio.sleep(0)
        return True

    def _is_full(self) -> bool:
        return len(self._lines) >= LINES_MAX or self._unwritten_bytes > UNWRITTEN_BYTES_MAX

    async def _serve_line(self, value: Any) -> None:
        after: list[Callable[[], None]] = []
        if not isinstance(value, list):
            reply = await self._serve_one(value, after)
            if reply is not None:
                await self._send(reply)
        elif not value or len(value) > BATCH_MAX:
            error = InvalidRequest(f"a batch holds 1 to {BATCH_MAX} requests, not {len(value)}")
            await self._send(dispatch.error_reply(None, error))
        else:
            async with asyncio.TaskGroup() as batch:
                tasks = [batch.create_task(self._serve_one(v, after)) for v in value]
            replies = [r for t in tasks if (r := t.result()) is not None]
            if replies:
                await self._send(replies)
        for callback in after:
            callback()

    async def _serve_one(
        self, value: Any, after: list[Callable[[], None]]
    ) -> dispatch.Reply | None:
        """One request's reply. Runs as a task of its own, so that it can be cancelled."""
        request_id = value.get("id") if isinstance(value, dict) else None
        if not isinstance(request_id, (str, int, float)) or isinstance(request_id, bool):
            request_id = None
        try:
            request = dispatch.check_request(value)
            if request["method"] == "$/cancelRequest":
                self._cancel(request.get("params", {}))
                told: dispatch.Reply = {"jsonrpc": "2.0", "id": request_id, "result": {}}
                return told if "id" in request else None
            return await self._dispatch(request, request_id, after)
        except MoshidError as e:
            is_notification = isinstance(value, dict) and "method" in value and "id" not in value
            return None if is_notification else dispatch.error_reply(request_id, e)

    async def _dispatch(
        self, request: dict[str, Any], request_id: Any, after: list[Callable[[], None]]
    ) -> dispatch.Reply | None:
        if self._unanswered >= PENDING_MAX:
            raise TooManyRequests(f"{PENDING_MAX} requests of this connection wait already")
        if request_id is not None and request_id in self._pending:
            raise InvalidRequest(f"a request with id {request_id!r} is being served already")
        caller = Caller(self, request_id, after)
        task = self._group.create_task(self._dispatcher.serve(request, caller))
        self._unanswered += 1
        if request_id is not None:
            self._pending[request_id] = task
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                task.cancel()
                raise
            raise RequestCancelled(f"{request['method']} was cancelled") from None
        finally:
            self._unanswered -= 1
            self._pending.pop(request_id, None)

    def _cancel(self, params: dict[str, Any]) -> None:
        target = params.get("id")
        if isinstance(target, (str, int, float)) and (task := self._pending.get(target)):
            task.cancel()

    async def _pump(self, number: int) -> None:
        subscription = self._subscriptions[number]
        while True:
            taken = await subscription.take()
            if taken.dropped:
                lagged = {"subscription": number, "dropped": taken.dropped, "seq": taken.seq}
                await self._notify("events.lagged", lagged)
            event = {
                "subscription": number,
                "seq": taken.seq,
                "topic": taken.event.topic,
                "data": taken.event.data,
            }
            await self._notify("event", event)

    async def _notify(self, method: str, params: dict[str, Any]) -> None:
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def _send(self, message: Any) -> None:
        data = encode(message)
        self._unwritten_bytes += len(data)
        try:
            async with self._write_lock:
                self._writer.write(data)
                await self._writer.drain()
        finally:
            self._unwritten_bytes -= len(data)

    async def _until_hung_up(self) -> None:
        """After end of file: a client that only shut its sending side still gets what it asked for.

        Nothing tells asyncio of the full hang-up, so it is looked for now and then.
        """
        sock: socket.socket = self._writer.get_extra_info("socket")
        poller = select.poll()
        poller.register(sock.fileno(), 0)
        while self._lines or self._subscriptions:
            if any(events & select.POLLHUP for _fd, events in poller.poll(0)):
                return
            waiting = [*self._lines, *self._pumps.values()]
            await asyncio.wait(waiting, timeout=HALF_CLOSED_CHECK_S)
