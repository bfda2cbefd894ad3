"""The daemon's eye on a worker that is alive but does not come back from a step.

Owns the limit and the asking; a worker's control thread answers while its main thread computes, and
says how long it has been at it. One whose control thread is silent too is stuck as a whole.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from moshid.errors import ModelStalled, WorkerDied
from moshid.model.messages import STEP_ACTIVITY, WAKING_ACTIVITY
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

WAKING_LIMIT_S: Final = 60.0
"""For the first step after a long rest: a system that was short of memory has to read the model
from its swap, tens of gigabytes perhaps, and a process killed for that would read them anew."""

LOOKS_A_LIMIT: Final = 5
"""So a step that hangs is noticed within a fifth of the limit."""


class Watchdog:
    """Looks only while somebody waits for steps: set ``needed`` then."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.needed = asyncio.Event()

    async def stalled(self, worker: WorkerProcess) -> ModelStalled:
        """Wait until a step of ``worker`` takes longer than the limit; what to say of it."""
        while True:
            await self.needed.wait()
            await asyncio.sleep(self._limit_s / LOOKS_A_LIMIT)
            step_s, limit_s = await self._step_s(worker)
            if step_s >= limit_s:
                log.error("a step hangs", extra={"pid": worker.pid, "step_s": step_s})
                return ModelStalled(f"a step took over {limit_s:g} s")

    async def _step_s(self, worker: WorkerProcess) -> tuple[float, float]:
        """How long it has been at its present step (0 if it is at none, or gone), and may be."""
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        try:
            pong = await worker.call("ping", timeout_s=self._limit_s)
        except WorkerDied:  # no answer in all that time; or at once, when it is about to be gone
            return loop.time() - asked_s if worker.alive else 0.0, self._limit_s
        limits_s = {
            STEP_ACTIVITY: self._limit_s,
            WAKING_ACTIVITY: max(self._limit_s, WAKING_LIMIT_S),
        }
        limit_s = limits_s.get(pong["busy_with"])
        return (0.0, self._limit_s) if limit_s is None else (float(pong["busy_s"]), limit_s)
