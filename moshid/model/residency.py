"""The life of the resident model: start a worker, load, watch, start again. Owns the state.

One task lives as long as a model is wanted: it loads, waits for the process's death, and loads
again with growing waits, until told to drop it or out of patience. A worker that finds its model
sick ends itself; one that hangs in a step is killed. What happens is told to one listener, in the
event loop.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from moshid.backoff import Backoff
from moshid.errors import (
    InternalError,
    ModelCrashLoop,
    ModelOutOfMemory,
    ModelStepFailed,
    ModelWorkerDied,
    MoshidError,
    NotFinite,
    ShuttingDown,
    WorkerDied,
    from_data,
)
from moshid.model import messages
from moshid.model.files import CheckpointPaths
from moshid.model.messages import parse
from moshid.model.states import RESIDENT, State, check
from moshid.model.watchdog import Watchdog
from moshid.settings import Settings
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

WORKER_MODULE: Final = "moshid.model.worker"

STABLE_AFTER_S: Final = 60.0
"""A process that lived this long with its model is forgiven its death: the waits start anew."""

PASSING: Final = (ModelOutOfMemory, ModelStepFailed, NotFinite)
"""What may be over at the next try, when a model that worked is loaded again."""

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

    def __init__(
        self,
        settings: Settings,
        tell: Listener,
        *,
        worker_module: str,
        oom_kills: Callable[[], int | None],
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._module = worker_module
        self._life: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._backoff = Backoff(settings.model_restart_backoff_s, settings.model_restart_max)
        self._stopping = False
        self._fault: MoshidError | None = None
        self._oom_kills = oom_kills
        self._oom_kills_before: int | None = None
        self.watchdog = Watchdog(settings.model_step_timeout_s)
        self.state = State.UNLOADED
        self.target: Target | None = None
        self.worker: WorkerProcess | None = None
        self.loaded: messages.Loaded | None = None
        self.stats: messages.Stats | None = None
        self.progress: dict[str, Any] | None = None
        self.last_step: messages.LastStep | None = None
        """The last real step that succeeded, of this process or one before it."""
        self.last_fault: messages.Fault | None = None
        """What ended a process of this model last."""
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
        self.target = self.last_step = self.last_fault = None
        self.error = None
        self._settled.set()
        self.set_state(State.UNLOADED)

    async def why(self, worker: WorkerProcess) -> MoshidError:
        """What ended ``worker``, whose end is near."""
        await asyncio.wait({worker.exited})
        return again(self._fault or self._why(worker))

    def note(self, stats: messages.Stats) -> None:
        """Take the worker's figures."""
        self.stats = stats
        self.last_step = stats.last_step or self.last_step

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
                died = await self._until_gone(worker)
                if loop.time() - ready_at_s > STABLE_AFTER_S:
                    self._backoff.reset()
            except MoshidError as e:
                died = self._why_not_loaded(e)
                if not self._may_pass(died):
                    await self._fail(died)
                    return
                await self._stop_worker()
            except Exception:
                log.exception("the model's supervision failed")
                await self._fail(InternalError("loading the model failed: see the log"))
                return
            if not await self._wait_after_death(died):
                return

    async def _load(self, target: Target) -> WorkerProcess:
        self._fault = None
        self._oom_kills_before = self._oom_kills()
        worker = await WorkerProcess.start(self._module, self._settings, on_event=self._on_event)
        self.worker = worker
        paths = target.paths
        params = {
            "config": str(paths.config) if paths.config else None,
            "weights": str(paths.weights),
            "tokenizer": str(paths.tokenizer),
            "quality": target.quality,
            "store": str(paths.store) if paths.store else None,
        }
        self.loaded = parse(await worker.call("load", params), messages.Loaded)
        self.last_step = self.loaded.last_step
        self.progress = None
        self.error = None
        self.set_state(State.READY)
        self._settled.set()
        self._tell("ready", {})
        return worker

    async def _until_gone(self, worker: WorkerProcess) -> MoshidError:
        """Wait for the process's end, which a step that hangs brings about; what was wrong."""
        watching = asyncio.create_task(self.watchdog.stalled(worker), name="model-watchdog")
        gone: set[asyncio.Future[Any]] = {watching, worker.exited}
        try:
            await asyncio.wait(gone, return_when=asyncio.FIRST_COMPLETED)
            if watching.done() and not worker.exited.done():
                self._fault = self._fault or watching.result()
                await worker.kill()
        finally:
            watching.cancel()
        return self._fault or self._why(worker)

    def _why_not_loaded(self, error: MoshidError) -> MoshidError:
        if not isinstance(error, WorkerDied):
            return error
        worker = self.worker
        if worker is not None and worker.exited.done():
            return self._fault or self._why(worker)
        return self._fault or ModelWorkerDied(error.message)

    def _may_pass(self, error: MoshidError) -> bool:
        """Whether loading again may help: after a death, or for a model that has worked before."""
        return isinstance(error, ModelWorkerDied) or (
            self.restarts > 0 and isinstance(error, PASSING)
        )

    def _why(self, worker: WorkerProcess) -> MoshidError:
        """Why a process ended that said nothing about it."""
        code = worker.exited.result()
        if code != -signal.SIGKILL or worker.was_killed:
            return ModelWorkerDied(f"the model's process ended (code {code})")
        before, now = self._oom_kills_before, self._oom_kills()
        if before is not None and now is not None and now > before:
            return ModelOutOfMemory("the system killed the model's process for want of memory")
        return ModelWorkerDied("the model's process was killed (SIGKILL)")

    async def _wait_after_death(self, died: MoshidError) -> bool:
        """Tell, wait, and say whether to try again."""
        pid = self.worker.pid if self.worker else None
        self.worker = None
        self._forget()
        self.error = died
        self.last_fault = messages.Fault(messages.now_utc(), died.kind, died.message)
        self._settled.clear()
        self.set_state(State.LOADING)
        self._tell("worker_died", {"pid": pid, "reason": died.message, "kind": died.kind})
        wait_s = self._backoff.next_s()
        if wait_s is None:
            tries = self._backoff.tries + 1
            message = f"it died {tries} times in a row; at last: {died.message}"
            await self._fail(ModelCrashLoop(message, cause=died.kind))
            return False
        await asyncio.sleep(wait_s)
        self.restarts += 1
        self._tell("restarting", {"attempt": self._backoff.tries, "waited_s": round(wait_s, 3)})
        return True

    async def _stop_worker(self) -> None:
        if self.worker is not None:
            await self.worker.stop()

    async def _fail(self, error: MoshidError) -> None:
        log.error("the model failed: %s", error.message, extra={"kind": error.kind})
        await self._stop_worker()
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
            case "fault":
                self._fault = from_data(data.pop("message"), data)
                return
            case "stats":
                self.note(parse(data, messages.Stats))
                return
        self._tell(event, data)


def again(error: MoshidError) -> MoshidError:
    """A fresh copy of ``error``, since several callers may raise it."""
    return from_data(error.message, error.to_data())
