"""The life of a worker process: exec, handshake, calls, heartbeat, drain, kill.

Owns the daemon's side of a control socket (its messages are described in ``worker_base``). What a
worker is for, and whether it is started again, its service decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

from moshid import ipc, worker_log
from moshid.errors import MoshidError, WorkerDied, from_data
from moshid.settings import Settings
from moshid.worker_exec import execute

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 60.0
"""A worker imports its libraries before it says hello; a cold disk takes its time."""

EventHandler = Callable[[str, dict[str, Any]], None]


class WorkerProcess:
    """One worker process from its start to its exit. Make it with ``start``."""

    def __init__(
        self, module: str, settings: Settings, on_event: EventHandler, sock: socket.socket
    ) -> None:
        self.module = module
        self.name = module.split(".")[1]
        self._settings = settings
        self._on_event = on_event
        self._sock = sock
        self._process: asyncio.subprocess.Process
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ids = itertools.count(1)
        self._send_lock = asyncio.Lock()
        self._hello, self._stopping = asyncio.Event(), False
        self.was_killed = False  # by us
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its return code, once the process is gone."""
        self._life: asyncio.Task[None]

    @classmethod
    async def start(cls, module: str, settings: Settings, *, on_event: EventHandler) -> Self:
        """Start ``python -m module`` and wait for its hello.

        Raises:
            WorkerDied: it ended, or said nothing for ``HANDSHAKE_TIMEOUT_S``, or the system has no
                process or descriptor left for it.
        """
        try:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            self = cls(module, settings, on_event, ours)
            with theirs:
                try:
                    self._process = await execute(module, settings, theirs.fileno())
                except BaseException:
                    ours.close()
                    raise
        except OSError as e:
            raise WorkerDied(f"a worker process cannot be started: {e.strerror or e}") from e
        self._life = asyncio.create_task(self._live(), name=f"{self.name}-worker")
        try:
            if not await self._says_hello():
                raise WorkerDied(f"the {self.name} worker did not start: see the log")
        except BaseException:
            await self.kill()
            raise
        return self

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there and not being stopped."""
        return not self.exited.done() and not self._stopping

    async def call(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        fds: Sequence[int] = (),
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Ask the worker and wait for its answer; ``fds`` are sent along, the caller closes them.

        Raises:
            MoshidError: what the worker answered.
            WorkerDied: it ended meanwhile, or did not answer within ``timeout_s``.
        """
        if self.exited.done():
            raise WorkerDied(f"the {self.name} worker is gone")
        call_id = next(self._ids)
        message = {"id": call_id, "method": method, "params": params or {}, "fds": len(fds)}
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[call_id] = answer
        try:
            await self._send(ipc.pack_message(message), fds)
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as e:
            raise WorkerDied(f"the {self.name} worker did not answer {method!r}") from e
        except OSError as e:
            # Its end is closed before its exit is noticed, and "gone" is to mean that it is.
            del self._pending[call_id]
            await asyncio.wait({self.exited}, timeout=timeout_s)
            raise WorkerDied(f"the {self.name} worker is gone") from e
        finally:
            self._pending.pop(call_id, None)

    async def stop(self) -> None:
        """End it in order: ask, then SIGTERM, then SIGKILL, within ``stop_timeout_s``."""
        self._stopping = True
        if not self.exited.done():
            patience_s = self._settings.stop_timeout_s / 2
            try:
                await self.call("shutdown", timeout_s=patience_s)
            except MoshidError as e:
                log.debug("the %s worker did not end in order: %s", self.name, e)
            if not await self._gone_within(patience_s / 2):
                self._signal(signal.SIGTERM)
                await self._gone_within(patience_s / 2)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._stopping = True
        self._signal(signal.SIGKILL)
        await asyncio.wait({self._life})  # so that cancelling the caller does not cancel its life

    def _signal(self, number: signal.Signals) -> None:
        if not self.exited.done():
            self.was_killed |= number is signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _says_hello(self) -> bool:
        hello = asyncio.create_task(self._hello.wait())
        gone: set[asyncio.Future[Any]] = {hello, self.exited}
        first = asyncio.FIRST_COMPLETED
        try:
            await asyncio.wait(gone, timeout=HANDSHAKE_TIMEOUT_S, return_when=first)
        finally:
            hello.cancel()
        return self._hello.is_set()

    async def _gone_within(self, timeout_s: float) -> bool:
        await asyncio.wait({self.exited}, timeout=timeout_s)
        return self.exited.done()

    async def _live(self) -> None:
        """Serve the worker until its process is gone; then fail what still waits for it."""
        async with asyncio.TaskGroup() as group:
            reading, beating = (group.create_task(w) for w in (self._read(), self._beat()))
            assert self._process.stdout is not None
            relay = worker_log.relay(self._process.stdout, self.name, self.pid)
            logs = group.create_task(relay)
            returncode = await self._process.wait()
            beating.cancel()
            # A child of the worker could keep either open for ever: take what is there, then go.
            await asyncio.wait({reading, logs}, timeout=1.0)
            reading.cancel()
            logs.cancel()
        self._sock.close()
        log.log(
            logging.INFO if self._stopping else logging.WARNING,
            "%s worker ended",
            self.name,
            extra={"pid": self.pid, "returncode": returncode},
        )
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(
                    WorkerDied(f"the {self.name} worker ended (code {returncode})")
                )
        self.exited.set_result(returncode)

    async def _read(self) -> None:
        decoder = ipc.MessageDecoder()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._sock, 65536):
                try:
                    messages = decoder.feed(data)
                except ipc.WireError:
                    log.exception("%s worker sent garbage: killing it", self.name)
                    self._signal(signal.SIGKILL)
                    return
                for message in messages:
                    self._accept(message)

    def _accept(self, message: dict[str, Any]) -> None:
        if "event" in message:
            if message["event"] == "hello":
                self._hello.set()
            else:
                self._tell(message["event"], message["data"])
            return
        answer = self._pending.get(message["id"])
        if answer is None or answer.done():
            return
        if "error" in message:
            error = message["error"]
            answer.set_exception(from_data(error["message"], error["data"]))
        else:
            answer.set_result(message["result"])

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        try:
            self._on_event(event, data)
        except Exception:  # a faulty listener may not stop the reading
            log.exception("%s worker: event %s was not handled", self.name, event)

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        async with self._send_lock:
            if fds:
                data = data[await self._send_rights(data, fds) :]
            if data:  # sending nothing would fail once the other end has gone
                await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _send_rights(self, data: bytes, fds: Sequence[int]) -> int:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return ipc.send_with_fds(self._sock, data, fds)
            except BlockingIOError:
                writable = loop.create_future()
                loop.add_writer(self._sock, writable.set_result, None)
                try:
                    await writable
                finally:
                    loop.remove_writer(self._sock)

    async def _beat(self) -> None:
        """Ping it; its control thread answers even while the main thread works."""
        every_s = self._settings.worker_heartbeat_s
        await self._hello.wait()  # until then ``start`` watches it

        async def ping() -> None:
            await self.call("ping", timeout_s=every_s)

        await silent(ping, every_s, self._settings.worker_heartbeat_missed_max)
        log.error("%s worker does not answer: killing it", self.name, extra={"pid": self.pid})
        self._signal(signal.SIGKILL)


async def silent(
    ping: Callable[[], Awaitable[None]],
    every_s: float,
    missed_max: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Ping ``every_s`` until ``missed_max`` pings in a row had no answer; a ping that is not
    answered takes ``every_s`` itself (WorkerDied), and the next follows at once."""
    missed = 0
    while missed < missed_max:
        begun_s = clock()
        try:
            await ping()
            missed = 0
        except WorkerDied:
            missed += 1
        await sleep(max(0.0, begun_s + every_s - clock()))
