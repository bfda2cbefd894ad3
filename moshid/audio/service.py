"""The daemon's side of sound. Owns the audio workers: one that talks, one spare that waits.

A worker serves one session, since PortAudio freezes its list of devices when it starts. So a spare
(``spares``) stands ready, its codec built and warm, and takes over the next talk, or the present
one when a device comes back (``reopening``). Imports no sound library.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any, Final

import msgspec

from moshid.audio import liveness
from moshid.audio.processes import Processes
from moshid.audio.reopening import Reopener, lose
from moshid.audio.request import CodecSpec, ControlChanges, Rejoin, parse
from moshid.audio.spares import Spares
from moshid.audio.talking import EventHandler, Talking
from moshid.errors import AudioWorkerDied, DeviceFailed, NoDevice, NoTalk, TalkBusy, WorkerDied
from moshid.events import Bus
from moshid.settings import Settings
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

MODULE: Final = "moshid.audio.worker"
CALL_TIMEOUT_S: Final = 20.0
DEATHS_MAX: Final = 3
LIVED_S: Final = 10.0
"""A worker that dies sooner than this after its start, three times in a row, ends the talk."""


class AudioService:
    """Starts, joins and stops the sound of talks. Live between ``run``'s start and its end."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        *,
        module: str = MODULE,
        look_s: float = liveness.LOOK_S,
    ) -> None:
        """``look_s``: between two looks at whether a session's process still works."""
        self._settings = settings
        self._look_s = look_s
        self._bus = bus
        self._processes = Processes(settings, module, self._from_worker, self._gone)
        self._spares = Spares(self._processes.start, settings.model_restart_backoff_s)
        self._talk: Talking | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()

    async def run(self, *, started: asyncio.Event) -> None:
        """Keep a spare ready until cancelled; then end every worker, within its bounds."""
        async with self._processes.running():
            started.set()
            try:
                await self._spares.run()
            finally:
                self._talk = self._keeper = None
                self._spares.forget()

    def set_codec(self, codec: dict[str, Any] | None) -> None:
        """The codec of the model that is resident now, ``{kind, weights, config, codebooks}``; the
        spare prepares it in the background."""
        self._spares.set_codec(None if codec is None else parse(codec, CodecSpec))

    def workers(self) -> list[dict[str, Any]]:
        """``[{name, pid, state}]`` for daemon.status."""
        found = []
        if self._talk is not None and self._talk.worker is not None:
            found.append(("talking", self._talk.worker))
        if self._spares.worker is not None:
            found.append(("spare", self._spares.worker))
        return [{"name": "audio", "pid": w.pid, "state": state} for state, w in found]

    async def devices(self) -> dict[str, Any]:
        """``{input: [...], output: [...]}`` as they are now, from a worker of its own.

        Raises:
            MoshidError: PortAudio cannot be asked, or the worker died.
        """
        return await self._ask("devices", {})

    async def find_devices(self, ends: dict[str, Any]) -> None:
        """See whether the devices are there now that ``ends`` (``request.Find``) mean.

        Raises:
            NoDevice: they are not; the hint lists those that are.
        """
        await self._ask("find", ends)

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
        spec = None if codec is None else self._spares.codec
        talk = Talking(params["session"], params, spec, on_event)
        talk.worker = await self._spares.take(spec)
        self._talk = talk
        if sock is not None and talk.can_move:
            talk.sock = sock.dup()
        talk.count(0)
        try:
            answer = await self._open_twice(talk, spec, sock)
        except BaseException as e:
            self._forget(talk)
            if isinstance(e, asyncio.CancelledError) and talk.writes_files:  # just now, perhaps
                limit_s = self._settings.stop_timeout_s
                await asyncio.wait({talk.worker.exited}, timeout=limit_s)
            raise
        talk.devices, talk.began_s = answer["devices"], time.monotonic()
        self._processes.later(liveness.watch(talk, self._look_s))
        if talk.can_move:
            processes = self._processes
            keeper = Reopener(talk, self._spares, processes.start_scout, processes.retire)
            self._keeper = self._processes.later(keeper.run(), name="audio-keeper")
        return answer

    async def rejoin(self, session: str, epoch: int, sock: socket.socket) -> None:
        """A new model process answers from ``epoch`` on; the caller closes ``sock``.

        Raises:
            NoTalk: the session is not running.
            AudioWorkerDied: the worker died meanwhile.
        """
        talk = self._talk
        if talk is None or talk.session != session:
            raise NoTalk(f"the talk {session} is not running")
        talk.params = talk.params | {"epoch": epoch}
        if talk.can_move:
            talk.replace_sock(sock.dup())
        if not talk.is_open:
            return  # whoever takes over gets the new socket
        try:
            await self._call(talk, "rejoin", msgspec.to_builtins(Rejoin(epoch)), [sock.fileno()])
        except AudioWorkerDied:
            if talk.over or not talk.can_move:
                raise
        except NoTalk:
            if talk.is_open:
                raise

    async def set_controls(self, session: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Change what the user may set (``request.ControlChanges``); all of it, as it is now.

        While the devices are away the next process begins with it. Raises as ``rejoin``.
        """
        talk = self._talk
        if talk is None or talk.session != session:
            raise NoTalk(f"the talk {session} is not running")
        talk.controls = talk.controls.changed(parse(changes, ControlChanges))
        if not talk.is_open:
            return talk.controls.to_dict()
        try:
            return await self._call(talk, "set", changes)
        except (AudioWorkerDied, NoTalk):
            if talk.over or not talk.can_move:
                raise
            return talk.controls.to_dict()

    async def trace(self, session: str) -> list[Any]:
        """The newest frames' spans (see ``audio.trace``). Raises as ``rejoin``."""
        talk = self._talk
        if talk is None or talk.session != session:
            raise NoTalk(f"the talk {session} is not running")
        spans: list[Any] = (await self._call(talk, "trace", {}))["spans"]
        return spans

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
            if not talk.is_open:
                return talk.stats
            params = {"session": session}
            return talk.note(await self._call(talk, "stop", params, timeout_s=patience_s))
        finally:
            self._forget(talk)

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Of a worker of its own, which sees the devices of this moment."""
        async with self._asking:  # however many ask: one process at a time
            worker = await self._processes.start()
            try:
                return await worker.call(method, params, timeout_s=CALL_TIMEOUT_S)
            finally:
                self._processes.retire(worker)

    async def _open_twice(
        self, talk: Talking, codec: CodecSpec | None, sock: socket.socket | None
    ) -> dict[str, Any]:
        """A spare may just be leaving, with a sound server that has died, or know devices of long
        ago only (a server hung when it looked, a card was in use): then the next one. What it had
        opened it has not used yet, so files are as they were."""
        try:
            return await self._open(talk, talk.params, sock)
        except (AudioWorkerDied, NoDevice) as e:
            log.info("the spare audio process did not open the talk: %s", e.message)
            if talk.worker is not None:
                self._processes.retire(talk.worker)
            talk.worker = await self._spares.take(codec)
            return await self._open(talk, talk.params, sock)

    async def _open(
        self, talk: Talking, params: dict[str, Any], sock: socket.socket | None
    ) -> dict[str, Any]:
        fds = [] if sock is None else [sock.fileno()]
        try:
            with liveness.telling_of_a_slow_start(talk, CALL_TIMEOUT_S):
                return await self._call(talk, "start", params, fds)
        except AudioWorkerDied as e:
            if not (talk.worker and talk.worker.alive):
                raise
            raise DeviceFailed(f"the sound devices did not open within {CALL_TIMEOUT_S:g} s") from e

    async def _call(
        self,
        talk: Talking,
        method: str,
        params: dict[str, Any],
        fds: list[int] | None = None,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> dict[str, Any]:
        if talk.worker is None:
            raise NoTalk("the talk's devices are away")
        try:
            return await talk.worker.call(method, params, fds=fds or [], timeout_s=timeout_s)
        except WorkerDied as e:
            raise AudioWorkerDied(e.message) from e

    def _forget(self, talk: Talking) -> None:
        """The session is over: its worker ends in the background."""
        talk.over = True
        if self._talk is talk:
            self._talk = None
            if self._keeper is not None:
                self._keeper.cancel()
            self._keeper = None
        if talk.worker is not None:
            self._processes.retire(talk.worker)
        talk.replace_sock(None)

    def _gone(self, worker: WorkerProcess) -> None:
        talk = self._talk
        if talk is None or talk.worker is not worker or talk.over or talk.away:
            return
        if not talk.devices:
            return  # it is still being opened: start_talk sees it
        talk.deaths = talk.deaths + 1 if time.monotonic() - talk.began_s < LIVED_S else 1
        if talk.can_move and talk.deaths < DEATHS_MAX:
            lose(talk, AudioWorkerDied("the audio process ended"))
            return
        self._forget(talk)
        talk.tell("died", {})

    def _from_worker(self, worker: WorkerProcess | None, name: str, data: dict[str, Any]) -> None:
        talk = self._talk
        if talk is None or talk.worker is not worker:
            return
        if (loss := talk.hear(name, data)) is not None:
            lose(talk, loss)
