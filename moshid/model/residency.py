"""The life of the resident model: start a worker, load, watch, start again. Owns the state.

One task lives as long as a model is wanted: it loads, waits for the process's death, and loads
again with growing waits, until told to drop it or out of patience. What happens is told to one
listener, in the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from moshid.errors import (
    InternalError,
    ModelCrashLoop,
    ModelWorkerDied,
    MoshidError,
    ShuttingDown,
    WorkerDied,
    from_data,
)
from moshid.model import messages
from moshid.model.files import CheckpointPaths
from moshid.model.messages import parse
from moshid.model.states import RESIDENT, State, check
from moshid.settings import Settings
from moshid.supervisor import Backoff, WorkerProcess

log = logging.getLogger(__name__)

WORKER_MODULE: Final = "moshid.model.worker"

STABLE_AFTER_S: Final = 60.0
"""A process that lived this long with its model is forgiven its death: the waits start anew."""

Listener = Callable[[str, dict[str, Any]], None]
"""``(event, extra)``: the residency's ``state``, ``progress``, ``worker_died``, ``restarting``,
``ready`` and ``failed``, and whatever the worker notifies."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be resident."""

    model: str
    paths: CheckpointPaths

    @property
    def quality(self) -> str:
        """What it runs as."""
        return self.paths.quality


class Residency:
    """At most one model in one worker process."""

    def __init__(self, settings: Settings, tell: Listener, *, worker_module: str) -> None:
        self._settings = settings
        self._tell = tell
        self._module = worker_module
        self._life: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._backoff = Backoff(settings.model_restart_backoff_s, settings.model_restart_max)
        self._stopping = False
        self.state = State.UNLOADED
        self.target: Target | None = None
        self.worker: WorkerProcess | None = None
        self.loaded: messages.Loaded | None = None
        self.stats: messages.Stats | None = None
        self.progress: dict[str, Any] | None = None
        self.error: MoshidError | None = None
        self.restarts = 0

    def keep(self, target: Target) -> None:
        """Begin to load ``target``; nothing may be resident.

        Raises:
            ShuttingDown: ``refuse`` was called.
        """
        if self._stopping:
            raise ShuttingDown("the daemon is stopping")
        self.target = target
        self.restarts = 0
        self._backoff.reset()
        self.error = None
        self._settled.clear()
        self.set_state(State.LOADING)
        self._life = asyncio.create_task(self._live(target), name="model-life")

    async def settled(self, target: Target) -> None:
        """Wait until ``target`` is ready, has failed, or is wanted no more."""
        while self.target == target and self.state in (State.LOADING, State.UNLOADING):
            await self._settled.wait()

    async def drop(self) -> None:
        """No model is resident afterwards. A load on its way is killed, a ready worker asked."""
        loading = self.state is State.LOADING
        self._settled.clear()
        if self.state in RESIDENT:
            self.set_state(State.UNLOADING)
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.wait({life})
        worker, self.worker = self.worker, None
        if worker is not None:
            await (worker.kill() if loading else worker.stop())
        self._forget()
        self.target = None
        self.error = None
        self._settled.set()
        self.set_state(State.UNLOADED)

    def refuse(self) -> None:
        """Take no other model from here on."""
        self._stopping = True

    def set_state(self, new: State) -> None:
        """Go to ``new`` by the table, and tell."""
        check(self.state, new)
        if new is not self.state:
            log.info("model %s", new, extra={"was": self.state.value})
            self.state = new
            self._tell("state", {})

    async def _live(self, target: Target) -> None:
        """The whole life, deaths included; never raises but when cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                worker = await self._load(target)
                ready_at_s = loop.time()
                await asyncio.wait({worker.exited})
                if loop.time() - ready_at_s > STABLE_AFTER_S:
                    self._backoff.reset()
                died = f"the model's process ended (code {worker.exited.result()})"
            except WorkerDied as e:
                died = e.message
            except MoshidError as e:
                await self._fail(e)
                return
            except Exception:
                log.exception("the model's supervision failed")
                await self._fail(InternalError("loading the model failed: see the log"))
                return
            if not await self._wait_after_death(died):
                return

    async def _load(self, target: Target) -> WorkerProcess:
        worker = await WorkerProcess.start(self._module, self._settings, on_event=self._on_event)
        self.worker = worker
        paths = target.paths
        params = {
            "config": str(paths.config) if paths.config else None,
            "weights": str(paths.weights),
            "tokenizer": str(paths.tokenizer),
            "quality": target.quality,
        }
        self.loaded = parse(await worker.call("load", params), messages.Loaded)
        self.progress = None
        self.error = None
        self.set_state(State.READY)
        self._settled.set()
        self._tell("ready", {})
        return worker

    async def _wait_after_death(self, died: str) -> bool:
        """Tell, wait, and say whether to try again."""
        pid = self.worker.pid if self.worker else None
        self.worker = None
        self._forget()
        self.error = ModelWorkerDied(died)
        self._settled.clear()
        self.set_state(State.LOADING)
        self._tell("worker_died", {"pid": pid, "reason": died})
        wait_s = self._backoff.next_s()
        if wait_s is None:
            tries = self._backoff.tries + 1
            await self._fail(ModelCrashLoop(f"it died {tries} times in a row; at last: {died}"))
            return False
        await asyncio.sleep(wait_s)
        self.restarts += 1
        self._tell("restarting", {"attempt": self._backoff.tries, "waited_s": round(wait_s, 3)})
        return True

    async def _fail(self, error: MoshidError) -> None:
        log.error("the model failed: %s", error.message, extra={"kind": error.kind})
        if self.worker is not None:
            await self.worker.stop()
        self.worker = None
        self._forget()
        self.error = error
        self.set_state(State.FAILED)
        self._settled.set()
        self._tell("failed", {})

    def _forget(self) -> None:
        self.loaded = self.stats = self.progress = None

    def _on_event(self, event: str, data: dict[str, Any]) -> None:
        match event:
            case "progress":
                self.progress = data
            case "stats":
                self.stats = parse(data, messages.Stats)
                return
        self._tell(event, data)


def again(error: MoshidError) -> MoshidError:
    """A fresh copy of ``error``, since several callers may raise it."""
    return from_data(error.message, error.to_data())
