"""What is done for an idle model: unload it in time, give way to memory, keep it warm.

Three loops beside the service. Owns their rhythm; what unloading means is the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal

from moshid.errors import MoshidError
from moshid.model import messages, pressure
from moshid.model.keeping import Keeping
from moshid.model.messages import parse
from moshid.model.residency import Residency
from moshid.model.states import State
from moshid.settings import Settings

log = logging.getLogger(__name__)

Reason = Literal["asked", "switched", "keep_alive", "memory_pressure"]
"""Why a model was unloaded."""

CLOCK_LOOK_S: Final = 30.0
"""``until`` is a time of day, which goes on while the machine sleeps; so it is looked at anew."""

PULSE_SHARE: Final = 0.1
"""Of the time, steps that only keep the device warm take so much at most."""


class Tending:
    """Looks after the resident model. ``run`` it beside the service."""

    def __init__(
        self,
        settings: Settings,
        residency: Residency,
        unload: Callable[[Reason, dict[str, Any]], Awaitable[bool]],
        system: pressure.System,
    ) -> None:
        """``unload`` ends an idle model and says whether it did; a busy one is left alone."""
        self._settings = settings
        self._residency = residency
        self._unload = unload
        self._system = system
        self._changed, self._may_want_warmth = asyncio.Event(), asyncio.Event()
        self._ready = asyncio.Event()
        self._gauge = pressure.Gauge()
        self._look_failed = False
        self._waiting = itertools.count(1)
        self.keeping = Keeping(settings.keep_alive_s, changed=self._changed.set)

    def note_call(self) -> None:
        """Somebody asked the daemon for something: the model is kept warm for a while."""
        self.keeping.note_call()
        self._may_want_warmth.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._unload_in_time(), name="model-keep-alive")
            if self._settings.unload_under_pressure:
                group.create_task(self._give_way(), name="model-pressure")
            if self._settings.model_pulse_s:
                group.create_task(self._keep_warm(), name="model-pulse")

    def note_state(self) -> None:
        """The model's state may have changed."""
        if self._residency.state in (State.READY, State.BUSY):
            if not self._ready.is_set():
                self._gauge.restart()
                self.keeping.loaded()
                self._ready.set()
                self._changed.set()
            return
        self._ready.clear()
        if self._residency.state is State.FAILED:
            self.keeping.failed()

    @contextlib.contextmanager
    def wanted(self) -> Iterator[None]:
        """Somebody asks for a load, and waits for its answer: it is in use until then, and its
        time to live counts from there, though it was resident already."""
        who = f"load {next(self._waiting)}"
        self.keeping.wanted()
        self.keeping.begin(who)
        try:
            yield
        finally:
            self.used(who, asked=False)

    def use(self, who: str) -> None:
        """Somebody uses the model, or is about to: it stays, and its steps are watched."""
        self.keeping.begin(who)
        self._may_want_warmth.set()
        self._residency.watchdog.needed.set()

    def used(self, who: str, *, asked: bool = True, watch: bool = False) -> None:
        """That use is over. ``watch``: a step may still go on, which is watched for now."""
        self.keeping.end(who, asked=asked)
        if watch:
            self._residency.watchdog.needed.set()
        elif not self.keeping.in_use:
            self._residency.watchdog.needed.clear()

    @property
    def _idle(self) -> bool:
        return self._residency.state is State.READY and not self.keeping.in_use

    @property
    def _may_pulse(self) -> bool:
        """Not in a benchmark, which would give way to it; in a talk the worker decides."""
        return self._idle or self._residency.state is State.BUSY

    async def _unload_in_time(self) -> None:
        while True:
            self._changed.clear()
            left_s = self.keeping.left_s
            if left_s == 0.0 and self._idle:
                await self._unload("keep_alive", {})
                continue
            wait_s = min(left_s, CLOCK_LOOK_S) if left_s else CLOCK_LOOK_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left_s is None else wait_s):
                    await self._changed.wait()

    async def _give_way(self) -> None:
        tells = False
        while True:
            await self._ready.wait()
            sample = self._look() or (pressure.UNKNOWN if tells else None)
            if sample is None:
                log.info("this system does not tell of memory pressure")
                return
            tells = True
            if self._gauge.look(sample) and self._idle:
                log.warning("memory is short: unloading the idle model: %s", sample.told_by)
                if await self._unload("memory_pressure", {"told_by": sample.told_by}):
                    self._gauge.gave()
            await asyncio.sleep(self._system.look_every_s)

    def _look(self) -> pressure.Sample | None:
        """None where the system does not tell; what it says once may fail, and be well again."""
        try:
            sample = self._system.sense()
        except Exception:  # whatever a system may say: the model goes on without this
            log.log(
                logging.DEBUG if self._look_failed else logging.ERROR,
                "the system's word on memory was not understood",
                exc_info=True,
            )
            self._look_failed = True
            return pressure.UNKNOWN
        self._look_failed = False
        return sample

    async def _keep_warm(self) -> None:
        while True:
            await self._ready.wait()
            if not self.keeping.wants_warmth:
                self._may_want_warmth.clear()
                await self._may_want_warmth.wait()
                continue
            step_ms = 0.0
            if self._may_pulse:
                await self._pulse()
                last = self._residency.last_step
                step_ms = last.ms if last else 0.0
            await asyncio.sleep(max(self._settings.model_pulse_s, step_ms / 1000 / PULSE_SHARE))

    async def _pulse(self) -> None:
        """One step that no conversation sees, watched as any other."""
        worker, needed = self._residency.worker, self._residency.watchdog.needed
        if worker is None:
            return
        needed.set()
        try:
            self._residency.note(parse(await worker.call("pulse"), messages.Stats))
        except MoshidError as e:
            log.debug("no pulse: %s", e.message)
        finally:
            if not self.keeping.in_use:
                needed.clear()
