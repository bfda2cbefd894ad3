"""The resident model as the rest of the daemon uses it: load, unload, benchmark, lend to a talk.

Owns who may ask what when, and the model's events on the bus; the worker's life is
``residency``'s, how long it stays and what keeps it warm is ``tending``'s, the loan to a talk is
``lending``'s. A client that goes away cancels its wait, never the load.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from moshid import durations
from moshid.carried import Carried
from moshid.errors import ModelNotLoaded, MoshidError
from moshid.events import Bus
from moshid.model import messages, pressure, status
from moshid.model.asking import ask, ready_worker
from moshid.model.files import CheckpointPaths
from moshid.model.lending import Borrower, Lending
from moshid.model.messages import parse, plain
from moshid.model.residency import WORKER_MODULE, Residency, Target, again
from moshid.model.states import RESIDENT, State
from moshid.model.tending import Reason, Tending
from moshid.settings import Settings

NEWS = ("worker_died", "restarting", "quantised")
"""That the bus gets, each of them; of ``state`` and ``progress`` only the newest matters."""


class ModelService:
    """One resident model. Everything runs in the daemon's event loop."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        *,
        worker_module: str = WORKER_MODULE,
        system: pressure.System = pressure.SYSTEM,
    ) -> None:
        self._bus = bus
        self._residency = Residency(
            settings, self._on_event, worker_module=worker_module, oom_kills=system.oom_kills
        )
        self._tending = Tending(settings, self._residency, self._unload_idle, system)
        self._lending = Lending(
            self._residency, self._tending, patience_s=settings.stop_timeout_s / 2
        )
        self._changing, self._changes = asyncio.Lock(), Carried()
        self._benching = asyncio.Lock()
        self._whys: dict[tuple[str, str], str] = {}
        self._default_model = settings.default_model
        self.about: str | None = None
        """The model that was asked for last, which the state is about when none is resident."""
        bus.provide_snapshot("model", lambda: {"status": self.status()})

    async def run(self, *, started: asyncio.Event) -> None:
        """Live in the daemon's task group until cancelled; then end the worker, bounded."""
        started.set()
        try:
            await self._tending.run()
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

    def status(self) -> dict[str, Any]:
        """The contract's ``model.status``."""
        target = self._residency.target
        why = self._whys.get((target.model, target.quality)) if target else None
        about = target.model if target else self.about or self._default_model
        return status.describe(self._residency, self._tending.keeping, why, about)

    def note_call(self) -> None:
        """Somebody asked the daemon for something: the model is kept warm for a while."""
        self._tending.note_call()

    def explain(self, model: str, quality: str, why: str) -> None:
        """Say in the status why this quality was taken, whenever it is the one."""
        self._whys[model, quality] = why

    def note_disk(self, state: State, model: str | None = None) -> None:
        """Say where the files are (absent, downloading, unloaded), of ``model`` when it is another
        one that is wanted now; ignored while one is resident."""
        if self.state not in RESIDENT:
            self.about = model or self.about
            self._residency.set_state(state)

    async def load(
        self,
        paths: CheckpointPaths,
        *,
        model: str,
        quality: str,
        wait: bool = True,
        keep_alive: str | float | None = None,
        session: str | None = None,
    ) -> dict[str, Any]:
        """Make ``model`` resident; waits (or not) until it is ready and returns its status.

        The same model there already, or on its way, is joined (``auto`` joins any quality of it).
        Another one is unloaded first. A caller that is cancelled only stops to wait. With
        ``keep_alive`` (see ``durations``) it stays so long after its last use; for ``session`` it
        is held until ``end_talk``.

        Raises:
            TalkBusy: a talk is going on and another model is asked for.
            ModelError: what the loading ran into (BadCheckpoint, ModelOutOfMemory, ...), or it
                was unloaded meanwhile.
        """
        resident = self._residency
        keep_s = None if keep_alive is None else durations.parse(keep_alive)
        if session is not None:
            self._lending.promise(session)
        with self._tending.wanted():
            target = await self._changes.through(
                self._switch(Target(model, paths), session, any_quality=quality == "auto")
            )
            if keep_alive is not None:
                self._tending.keeping.keep(keep_s)
            if wait:
                await resident.settled(target)
        if wait and resident.target != target:
            raise ModelNotLoaded(f"{model} was unloaded while it was loading")
        if wait and resident.state is State.FAILED and resident.error is not None:
            raise again(resident.error)
        return self.status()

    async def unload(self) -> dict[str, Any]:
        """End the worker, which gives the memory back; a load on its way is given up.

        Raises:
            TalkBusy: a talk is going on.
        """
        await self._changes.through(self._drop("asked"))
        return self.status()

    async def bench(self, steps: int = 100) -> dict[str, Any]:
        """``steps`` steps for the daemon's own sake: no use that a keep_alive of 0 waits for."""
        return await self.benchmark(asked=False, steps=steps)

    async def benchmark(self, *, asked: bool = True, **params: Any) -> dict[str, Any]:
        """Real steps on the loaded model, and what else BenchParams asks for.

        Raises:
            ModelNotLoaded: no model is ready.
            TalkBusy: a talk is going on.
            ModelError: a talk began meanwhile, and the benchmark gave way to it.
            InvalidParams: too few or too many steps.
        """
        params = plain(parse(params, messages.BenchParams))
        async with self._benching:  # one benchmark does not give way to another
            self._lending.refuse_in_talk("benchmark the model")
            worker = ready_worker(self._residency)
            self._tending.use("bench")
            try:
                return await ask(self._residency, worker, "bench", params)
            finally:
                self._tending.used("bench", asked=asked)

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

        ``sampling`` is TalkParams. The callbacks (see ``Borrower``) run in the event loop and may
        not block; after ``on_restarted`` call this again, with a new epoch.

        Raises:
            InvalidParams: a bad ``sampling``.
            ModelNotLoaded: no model is ready.
            TalkBusy: another talk has the model.
            ModelError: its process ended meanwhile, or it is sick.
        """
        talk = Borrower(session, on_text, on_gone, on_restarted, on_failed)
        with sock:
            await self._lending.lend(talk, epoch, sock, sampling)

    async def end_talk(self, session: str) -> None:
        """Take the model back. No error when the talk is over for it, or never had it. A
        worker too busy to answer does so later; one that hangs is left to the watchdog.
        """
        await self._lending.take_back(session)

    async def _switch(self, target: Target, session: str | None, *, any_quality: bool) -> Target:
        """Begin to load ``target`` unless it is there or coming; what is."""
        resident = self._residency
        async with self._changing:
            now = resident.target if resident.state in RESIDENT else None
            if now is not None and (now == target or (any_quality and now.model == target.model)):
                return now
            self._lending.refuse_in_talk("load another model", session)
            self.about = target.model
            await self._end_worker("switched", {})
            resident.keep(target)
            return target

    async def _drop(self, reason: Reason) -> None:
        async with self._changing:
            self._lending.refuse_in_talk("unload the model")
            await self._end_worker(reason, {})

    async def _unload_idle(self, reason: Reason, why: dict[str, Any]) -> bool:
        """Unload unless somebody came meanwhile; whether it did."""
        async with self._changing:
            if self.state is not State.READY or self._tending.keeping.in_use:
                return False
            await self._end_worker(reason, why)
            return True

    async def _end_worker(self, reason: Reason, why: dict[str, Any]) -> None:
        was = self.status()
        await self._residency.drop()
        self._tending.keeping.gone()
        if was["pid"] is not None:
            message = {"event": "unloaded", "reason": reason, "model": was["model"], **why}
            self._bus.publish("model", {**message, "status": self.status()})

    def _on_event(self, event: str, data: dict[str, Any]) -> None:
        if event == "state":
            self._tending.note_state()
        if event in ("state", "progress"):
            self._bus.publish("model", {"event": event, "status": self.status()}, key="model")
        elif event in NEWS:
            self._bus.publish("model", {"event": event, "status": self.status(), **data})
        self._lending.tell(event, data)
