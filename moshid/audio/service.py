"""The daemon's side of sound. Owns the audio workers: one that talks, one spare that waits.

A worker serves one session, since PortAudio freezes its list of devices when it starts. So a spare
stands ready, its codec built and warm, and takes over the next talk. Imports no sound library.

::

    spare: none ──start──▶ starting ──prepare──▶ ready ──start_talk──▶ (talking) ──▶ stopped
             ▲                 │ died: back-off      │ died, or the codec changed
             └─────────────────┴─────────────────────┘
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from moshid.audio.request import CodecSpec, Prepare, Rejoin, parse
from moshid.errors import AudioWorkerDied, MoshidError, NoTalk, TalkBusy, WorkerDied, from_data
from moshid.events import Bus
from moshid.settings import Settings
from moshid.supervisor import Backoff, WorkerProcess

log = logging.getLogger(__name__)

MODULE: Final = "moshid.audio.worker"
SPARE_TRIES_MAX: Final = 5
SPARE_TIMEOUT_S: Final = 60.0
CALL_TIMEOUT_S: Final = 20.0

EventHandler = Callable[[str, dict[str, Any]], None]


@dataclass(slots=True)
class _Talk:
    """The running session: its worker and who wants to hear of it."""

    session: str
    worker: WorkerProcess
    on_event: EventHandler
    over: bool = False

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Hand on an event; a faulty listener may not take the service down."""
        try:
            self.on_event(name, data)
        except Exception:
            log.exception("audio event %s was not handled", name)


class AudioService:
    """Starts, joins and stops the sound of talks. Live between ``run``'s start and its end."""

    def __init__(self, settings: Settings, bus: Bus, *, module: str = MODULE) -> None:
        self._settings = settings
        self._bus = bus
        self._module = module
        self._codec: CodecSpec | None = None
        self._spare: WorkerProcess | None = None
        self._spare_codec: CodecSpec | None = None
        self._spare_error: MoshidError | None = None
        self._spare_changed = asyncio.Condition()
        self._wake = asyncio.Event()
        self._talk: _Talk | None = None
        self._workers: set[WorkerProcess] = set()
        self._asking = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None

    async def run(self, *, started: asyncio.Event) -> None:
        """Keep a spare ready until cancelled; then end every worker, within its bounds."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self._group.create_task(self._keep_spare(), name="audio-spare")
                started.set()
        finally:
            self._group = self._talk = self._spare = None
            await asyncio.gather(*(worker.stop() for worker in tuple(self._workers)))

    def set_codec(self, codec: dict[str, Any] | None) -> None:
        """The codec of the model that is resident now, ``{kind, weights, config, codebooks}``; the
        spare prepares it in the background."""
        self._codec = None if codec is None else parse(codec, CodecSpec)
        self._wake.set()

    def workers(self) -> list[dict[str, Any]]:
        """``[{name, pid, state}]`` for daemon.status."""
        found = []
        if self._talk is not None:
            found.append(("talking", self._talk.worker))
        if self._spare is not None and self._spare.alive:
            found.append(("spare", self._spare))
        return [{"name": "audio", "pid": w.pid, "state": state} for state, w in found]

    async def devices(self) -> dict[str, Any]:
        """``{input: [...], output: [...]}`` as they are now, from a worker of its own.

        Raises:
            MoshidError: PortAudio cannot be asked, or the worker died.
        """
        async with self._asking:  # however many ask: one process at a time
            worker = await self._start_worker()
            try:
                return await worker.call("devices", timeout_s=CALL_TIMEOUT_S)
            finally:
                self._retire(worker)

    async def start_talk(
        self,
        params: dict[str, Any],
        codec: dict[str, Any] | None,
        sock: socket.socket | None,
        on_event: EventHandler,
    ) -> dict[str, Any]:
        """Start a session on the spare; → ``{devices: {input, output}, sample_rate}``.

        Args:
            params: as ``request.Start``.
            codec: of the model that answers; None for the echo engine.
            sock: the audio worker's end of the frame socketpair; the caller closes it.
            on_event: gets ``level``, ``stats`` and ``ended`` with the worker's data, ``failed``
                with ``{error: MoshidError}``, and ``died`` when the process has gone.

        Raises:
            TalkBusy: a session is running.
            AudioError: no such device or file, or the worker died.
        """
        if self._talk is not None:
            raise TalkBusy("a talk is running already")
        if codec is not None:
            self.set_codec(codec)
        worker = await self._take_spare(None if codec is None else self._codec)
        talk = self._talk = _Talk(params["session"], worker, on_event)
        self._later(self._watch(talk))
        fds = [] if sock is None else [sock.fileno()]
        try:
            return await self._call(talk, "start", params, fds)
        except BaseException:
            self._forget(talk)
            raise

    async def rejoin(self, session: str, epoch: int, sock: socket.socket) -> None:
        """A new model process answers from ``epoch`` on; the caller closes ``sock``.

        Raises:
            NoTalk: the session is not running.
            AudioWorkerDied: the worker died meanwhile.
        """
        talk = self._talk
        if talk is None or talk.session != session:
            raise NoTalk(f"the talk {session} is not running")
        await self._call(talk, "rejoin", msgspec.to_builtins(Rejoin(epoch)), [sock.fileno()])

    async def stop_talk(self, session: str) -> dict[str, Any]:
        """End the session, its last sound played and its files finished; returns the last stats,
        ``{}`` when it is not running.

        Raises:
            AudioWorkerDied: the worker died meanwhile.
        """
        talk = self._talk
        if talk is None or talk.session != session:
            return {}
        talk.over = True
        patience_s = self._settings.stop_timeout_s / 2  # the daemon's own stop waits no longer
        try:
            return await self._call(talk, "stop", {"session": session}, timeout_s=patience_s)
        finally:
            self._forget(talk)

    async def _call(
        self,
        talk: _Talk,
        method: str,
        params: dict[str, Any],
        fds: list[int] | None = None,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        try:
            return await talk.worker.call(method, params, fds=fds or [], timeout_s=timeout_s)
        except WorkerDied as e:
            raise AudioWorkerDied(e.message) from e

    def _forget(self, talk: _Talk) -> None:
        """The session is over: its worker ends in the background."""
        talk.over = True
        if self._talk is talk:
            self._talk = None
        self._retire(talk.worker)

    async def _watch(self, talk: _Talk) -> None:
        await asyncio.wait({talk.worker.exited})
        if not talk.over:
            self._forget(talk)
            talk.tell("died", {})

    def _from_worker(self, worker: WorkerProcess | None, name: str, data: dict[str, Any]) -> None:
        talk = self._talk
        if talk is None or talk.worker is not worker:
            return
        if name != "state":
            talk.tell(name, data)
        elif data["state"] == "failed":
            error = dict(data["error"])
            talk.tell("failed", {"error": from_data(error.pop("message"), error)})

    async def _take_spare(self, codec: CodecSpec | None) -> WorkerProcess:
        """The spare, ready with ``codec`` (None: any); another one is made behind it."""
        self._spare_error = None
        self._wake.set()
        try:
            async with asyncio.timeout(SPARE_TIMEOUT_S), self._spare_changed:
                await self._spare_changed.wait_for(
                    lambda: self._spare_error is not None or self._is_ready(codec)
                )
        except TimeoutError as e:
            raise AudioWorkerDied("no audio worker became ready in time") from e
        worker = self._spare
        if worker is None or not self._is_ready(codec):
            raise self._why_there_is_none()
        self._spare = None
        self._wake.set()
        return worker

    def _why_there_is_none(self) -> MoshidError:
        if self._spare_error is None or isinstance(self._spare_error, WorkerDied):
            return AudioWorkerDied(str(self._spare_error or "the audio worker died"))
        return self._spare_error

    def _is_ready(self, codec: CodecSpec | None) -> bool:
        alive = self._spare is not None and self._spare.alive
        return alive and (codec is None or self._spare_codec == codec)

    async def _keep_spare(self) -> None:
        backoff = Backoff(self._settings.model_restart_backoff_s, SPARE_TRIES_MAX)
        while True:
            self._wake.clear()
            error = await self._make_ready()
            async with self._spare_changed:
                self._spare_error = error
                self._spare_changed.notify_all()
            if error is None:
                backoff.reset()
            else:
                log.warning("no audio worker is ready: %s", error.message)
                wait_s = backoff.next_s() if error.retryable else None
                if wait_s is not None:
                    await asyncio.sleep(wait_s)
                    continue
            await self._spare_is_needed()

    async def _make_ready(self) -> MoshidError | None:
        """Start the spare if there is none, build its codec if that is not the model's."""
        try:
            if self._spare is None or not self._spare.alive:
                self._spare_codec = None
                self._spare = await self._start_worker()
            codec = self._codec
            if codec is not None and codec != self._spare_codec:
                await self._spare.call("prepare", msgspec.to_builtins(Prepare(codec)))
                self._spare_codec = codec
        except MoshidError as e:
            return e
        return None

    async def _spare_is_needed(self) -> None:
        """Wait until the spare has been taken or has died, or the codec may have changed."""
        wake = asyncio.create_task(self._wake.wait())
        reasons: set[asyncio.Future[Any]] = {wake}
        if self._spare is not None and self._spare.alive:
            reasons.add(self._spare.exited)
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        finally:
            wake.cancel()

    async def _start_worker(self) -> WorkerProcess:
        worker: WorkerProcess | None = None

        def on_event(name: str, data: dict[str, Any]) -> None:
            self._from_worker(worker, name, data)

        worker = await WorkerProcess.start(self._module, self._settings, on_event=on_event)
        self._workers.add(worker)
        return worker

    def _retire(self, worker: WorkerProcess) -> None:
        async def stop() -> None:
            await worker.stop()
            self._workers.discard(worker)

        self._later(stop())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background, as a part of ``run``."""
        if self._group is None:
            work.close()
        else:
            self._group.create_task(work)
