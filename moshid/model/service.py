"""The resident model as the rest of the daemon uses it: load, unload, benchmark, lend to a talk.

Owns who may ask what when, and the model's events on the bus; the worker's life is
``residency``'s. A client that goes away cancels its wait, never the load.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from moshid.carried import Carried
from moshid.errors import (
    ModelError,
    ModelNotLoaded,
    ModelWorkerDied,
    MoshidError,
    NoTalk,
    TalkBusy,
    WorkerDied,
)
from moshid.events import Bus
from moshid.model import messages
from moshid.model.files import CheckpointPaths
from moshid.model.messages import TalkParams, parse, plain
from moshid.model.residency import WORKER_MODULE, Residency, Target, again
from moshid.model.states import RESIDENT, State
from moshid.settings import Settings
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

NO_STEP_MS: Final = {"p50": None, "p95": None, "p99": None}
"""Step times while none are known: the status keeps its shape."""


@dataclass(slots=True)
class _Talk:
    """Who has the model, and whom to tell. See ``begin_talk``."""

    session: str
    on_text: Callable[[dict[str, Any]], None]
    on_gone: Callable[[MoshidError], None]
    on_restarted: Callable[[], None]
    on_failed: Callable[[MoshidError], None]
    interrupted: bool = False


class ModelService:
    """One resident model. Everything runs in the daemon's event loop."""

    def __init__(self, settings: Settings, bus: Bus, *, worker_module: str = WORKER_MODULE) -> None:
        self._settings = settings
        self._bus = bus
        self._residency = Residency(settings, self._on_event, worker_module=worker_module)
        self._changing = asyncio.Lock()
        self._changes = Carried()
        self._benching = asyncio.Lock()
        self._talk: _Talk | None = None
        bus.provide_snapshot("model", lambda: {"status": self.status()})

    async def run(self, *, started: asyncio.Event) -> None:
        """Live in the daemon's task group until cancelled; then end the worker, bounded."""
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._residency.refuse()
            await self._changes.settle()
            await self._residency.drop()

    @property
    def state(self) -> State:
        """Where the model is."""
        return self._residency.state

    @property
    def loaded(self) -> messages.Loaded | None:
        """The loaded model's shape (codebooks, delay) and times, or None."""
        return self._residency.loaded

    def is_loaded(self, model: str, quality: str) -> bool:
        """Whether this is ready, or in a talk; ``auto`` is any quality."""
        target = self._residency.target
        if target is None or target.model != model or quality not in ("auto", target.quality):
            return False
        return self.state in (State.READY, State.BUSY)

    def status(self) -> dict[str, Any]:
        """The contract's ``model.status``."""
        now = self._residency
        loaded, stats, error = now.loaded, now.stats, now.error
        step_ms = (stats.step_ms if stats else None) or (loaded.step_ms if loaded else None)
        memory = stats.memory_bytes if stats else loaded.memory_bytes if loaded else None
        return {
            "state": now.state.value,
            "model": now.target.model if now.target else None,
            "quality": now.target.quality if now.target else None,
            "weights": str(now.target.paths.weights) if now.target else None,
            "memory_bytes": memory,
            "load_s": loaded.load_s if loaded else None,
            "warmup_s": loaded.warmup_s if loaded else None,
            "step_ms": plain(step_ms) if step_ms else NO_STEP_MS,
            "until": None,
            "pid": now.worker.pid if now.worker else None,
            "restarts": now.restarts,
            "error": {"message": error.message, **error.to_data()} if error else None,
            "progress": now.progress,
        }

    def note_disk(self, state: State) -> None:
        """Say where the files are (absent, downloading, unloaded); ignored while resident."""
        if self.state not in RESIDENT:
            self._residency.set_state(state)

    async def load(
        self, paths: CheckpointPaths, *, model: str, quality: str, wait: bool = True
    ) -> dict[str, Any]:
        """Make ``model`` resident; waits (or not) until it is ready and returns its status.

        The same model there already, or on its way, is joined (``auto`` joins any quality of it).
        Another one is unloaded first. A caller that is cancelled only stops to wait.

        Raises:
            TalkBusy: a talk is going on and another model is asked for.
            ModelNotLoaded: it was unloaded while it was loading.
            MoshidError: what the loading ran into (BadCheckpoint, ModelOutOfMemory, ...).
        """
        resident = self._residency
        target = await self._changes.through(
            self._switch(Target(model, paths), any_quality=quality == "auto")
        )
        if not wait:
            return self.status()
        await resident.settled(target)
        if resident.target != target:
            raise ModelNotLoaded(f"{model} was unloaded while it was loading")
        if resident.state is State.FAILED and resident.error is not None:
            raise again(resident.error)
        return self.status()

    async def unload(self) -> dict[str, Any]:
        """End the worker, which gives the memory back; a load on its way is given up.

        Raises:
            TalkBusy: a talk is going on.
        """
        await self._changes.through(self._drop())
        return self.status()

    async def bench(self, steps: int = 100) -> dict[str, Any]:
        """``steps`` real steps on the loaded model.

        Raises:
            ModelNotLoaded: no model is ready.
            TalkBusy: a talk is going on.
            ModelError: a talk began meanwhile, and the benchmark gave way to it.
            InvalidParams: too few or too many steps.
        """
        params = plain(parse({"steps": steps}, messages.BenchParams))
        async with self._benching:  # one benchmark does not give way to another
            self._refuse_in_talk("benchmark the model")
            return await _call(self._need_worker(), "bench", params)

    async def begin_talk(
        self,
        session: str,
        epoch: int,
        sock: socket.socket,
        sampling: dict[str, Any],
        *,
        on_text: Callable[[dict[str, Any]], None],
        on_gone: Callable[[MoshidError], None],
        on_restarted: Callable[[], None],
        on_failed: Callable[[MoshidError], None],
    ) -> None:
        """Lend the model to a talk: fresh state, then frames over ``sock``, which is given away.

        ``sampling`` is TalkParams. The callbacks run in the event loop and may not block:
        ``on_text {session, frame, token, piece}``; ``on_gone`` when the model's process died and
        is being started again; ``on_restarted`` when it is ready: call this again with a new
        epoch; ``on_failed`` when it will not come back, and the model has left the talk.

        Raises:
            InvalidParams: a bad ``sampling``.
            ModelNotLoaded: no model is ready.
            TalkBusy: another talk has the model.
            ModelWorkerDied: its process ended meanwhile.
        """
        with sock:
            before = self._talk
            if before is not None and before.session != session:
                raise TalkBusy(f"the model is in talk {before.session}")
            worker = self._need_worker()
            request = plain(parse(sampling, TalkParams)) | {"session": session, "epoch": epoch}
            self._talk = _Talk(session, on_text, on_gone, on_restarted, on_failed)
            try:
                await _call(worker, "talk", request, fds=[sock.fileno()])
            except BaseException:
                self._talk = before
                raise
            if self.state is State.READY:
                self._residency.set_state(State.BUSY)

    async def end_talk(self, session: str) -> None:
        """Take the model back. No error when the talk is over for it."""
        if self._talk is not None and self._talk.session == session:
            self._talk = None
        worker = self._residency.worker
        if worker is not None and self.state in (State.READY, State.BUSY):
            patience_s = self._settings.stop_timeout_s / 2
            try:
                await worker.call("talk_stop", {"session": session}, timeout_s=patience_s)
            except NoTalk as e:
                log.debug("talk %s is over for the model: %s", session, e)
            except WorkerDied as e:
                log.warning("the model is not given back: %s", e)
                await worker.kill()  # if it hangs; then it is started again
        self._back_to_ready()

    async def _switch(self, target: Target, *, any_quality: bool) -> Target:
        """Begin to load ``target`` unless it is there or coming; what is."""
        resident = self._residency
        async with self._changing:
            now = resident.target if resident.state in RESIDENT else None
            if now is not None and (now == target or (any_quality and now.model == target.model)):
                return now
            self._refuse_in_talk("load another model")
            await resident.drop()
            resident.keep(target)
            return target

    async def _drop(self) -> None:
        async with self._changing:
            self._refuse_in_talk("unload the model")
            await self._residency.drop()

    def _refuse_in_talk(self, what: str) -> None:
        if self._talk is not None:
            raise TalkBusy(f"cannot {what} during talk {self._talk.session}")

    def _need_worker(self) -> WorkerProcess:
        worker = self._residency.worker
        if worker is None or self.state not in (State.READY, State.BUSY):
            raise ModelNotLoaded(f"no model is ready: it is {self.state}")
        return worker

    def _back_to_ready(self) -> None:
        if self._talk is None and self.state is State.BUSY:
            self._residency.set_state(State.READY)

    def _on_event(self, event: str, data: dict[str, Any]) -> None:
        match event:
            case "state" | "progress" | "worker_died" | "restarting":
                extra = data if event in ("worker_died", "restarting") else {}
                key = "model" if event in ("state", "progress") else None
                message = {"event": event, "status": self.status(), **extra}
                self._bus.publish("model", message, key=key)
        if (talk := self._talk) is not None:
            self._tell_talk(talk, event, data)

    def _tell_talk(self, talk: _Talk, event: str, data: dict[str, Any]) -> None:
        gone = self._residency.error or ModelWorkerDied("the model's process ended")
        match event:
            case "text" if data["session"] == talk.session:
                talk.on_text(data)
            case "talk_ended" if data["session"] == talk.session and data["reason"] != "replaced":
                self._talk_ended(talk, data["reason"])
            case "worker_died" if not talk.interrupted:
                talk.interrupted = True
                talk.on_gone(gone)
            case "ready" if talk.interrupted:
                talk.on_restarted()
            case "failed":
                self._talk = None
                talk.on_failed(gone)

    def _talk_ended(self, talk: _Talk, reason: str) -> None:
        """The worker serves the talk's frames no more; that is a fault unless the peer ended it."""
        self._talk = None
        self._back_to_ready()
        if reason not in ("end", "eof", "stopped"):
            talk.on_failed(ModelError(f"the model left the talk: {reason}", reason=reason))


async def _call(
    worker: WorkerProcess, method: str, params: dict[str, Any], fds: list[int] | None = None
) -> dict[str, Any]:
    """A call whose worker's death is the model's."""
    try:
        return await worker.call(method, params, fds=fds or [])
    except WorkerDied as e:
        raise ModelWorkerDied(e.message) from e
