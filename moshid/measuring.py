"""Measures what ``auto`` has loaded, once, so that the next time it knows.

Watches the model's events: when a model is ready that ``auto`` chose and nothing is known of its
speed here, a few real steps are run. A talk goes first; it is tried again when the talk is over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from moshid.errors import MoshidError
from moshid.events import Bus
from moshid.model.auto import MEASURED_STEPS, Verdict, Verdicts, measured
from moshid.model.catalogue import Choice
from moshid.model.service import ModelService
from moshid.model.states import State

log = logging.getLogger(__name__)

TRIES: Final = 3
"""Of a measurement that says too slow: another program may have had the machine meanwhile."""

Decided = Callable[[str, str], Choice | None]
"""``(model, quality)`` → how ``auto`` came to it."""


class Measuring:
    """A part of the daemon."""

    def __init__(self, bus: Bus, model: ModelService, decided: Decided, verdicts: Verdicts) -> None:
        self._bus = bus
        self._model = model
        self._decided = decided
        self._verdicts = verdicts
        self._unwritten: set[tuple[str, str]] = set()
        """Measured, though the verdict could not be written down."""

    async def run(self, *, started: asyncio.Event) -> None:
        """Watch until cancelled."""
        subscription = self._bus.subscribe(["model"])
        try:
            started.set()
            while True:
                await subscription.take()
                if self._model.state is State.READY:
                    await self._measure()
        finally:
            subscription.close()

    async def _measure(self) -> None:
        status = self._model.status()
        choice = self._decided(status["model"], status["quality"])
        if choice is None or choice.loaded_bytes is None:
            return
        if (choice.name, choice.quality) in self._unwritten:
            return
        known = await asyncio.to_thread(
            self._verdicts.of, choice.name, choice.quality, choice.loaded_bytes
        )
        if known is None and (verdict := await self._steps(choice.loaded_bytes)) is not None:
            await self._note(choice, verdict)

    async def _steps(self, size_bytes: int) -> Verdict | None:
        """The best of some tries; None: the model was wanted for something else."""
        best: Verdict | None = None
        for _ in range(TRIES):
            try:
                result = await self._model.bench(MEASURED_STEPS)
            except MoshidError as e:
                log.info("the model is not measured now: %s", e.message)
                return None
            verdict = Verdict(_full_p95_ms(result), MEASURED_STEPS, size_bytes)
            best = verdict if best is None else min(best, verdict, key=lambda v: v.p95_ms)
            if best.keeps_up:
                break
        return best

    async def _note(self, choice: Choice, verdict: Verdict) -> None:
        try:
            await asyncio.to_thread(self._verdicts.note, choice.name, choice.quality, verdict)
        except OSError as e:
            log.warning("what was measured is not kept: %s", e.strerror)
            self._unwritten.add((choice.name, choice.quality))
        why = f"{choice.reason}; measured here: {measured(verdict)}"
        if not verdict.keeps_up:
            why += "; auto takes a lower quality the next time, if there is one"
        self._model.explain(choice.name, choice.quality, why)
        log.info("measured", extra={"model": choice.name, "quality": choice.quality})


def _full_p95_ms(result: dict[str, Any]) -> float:
    """The 95th percentile as it is once a talk has filled the key-value cache: a step takes as much
    longer as it reads more."""
    read = result["bandwidth"]
    return float(result["step_ms"]["p95"] * read["full_step_bytes"] / read["step_bytes"])
