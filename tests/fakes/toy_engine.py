"""An engine that computes nothing: it repeats what it hears, and is sick on request.

It keeps a journal of what was asked of it. No weights, no MLX: for tests of what stands around an
engine.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from moshid.errors import NotFinite
from moshid.model.engine import EngineFacts, Sampling, StepResult
from moshid.model.footprint import Footprint

PADDING = 3


class ToyEngine:
    """Answers with the tokens it hears and the step's number as text; 3 is padding.

    ``fault`` is what becomes of it in the step ``at`` after a ``begin`` (0 is the first), or in the
    heartbeat of that number.
    """

    card = 64
    facts = EngineFacts("tokens", 2, 2, 1, 100, "bf16")
    footprint = Footprint(1000, 900, 10, 50)

    def __init__(
        self, fault: str = "none", at: int = -1, write: Callable[[str], None] = lambda _: None
    ) -> None:
        self.heard: list[tuple[int, ...]] = []
        self._fault = fault
        self._at = at
        self._write = write
        self._step = self._beats = 0
        self._texts = itertools.count()

    def begin(self, seed: int, sampling: Sampling) -> None:
        """Nothing to forget."""
        self._write(f"begin {seed} {sampling}")
        self._step = 0

    def step(self, heard: Sequence[int] | bytes) -> StepResult:
        if len(heard) != 2:
            raise ValueError("two tokens a frame")
        self._write("step")
        self._step += 1
        if self._step > self._at >= 0 and (said := self._fall_ill()) is not None:
            return said
        tokens = tuple(heard)
        self.heard.append(tokens)
        return StepResult(next(self._texts), tokens)

    def piece(self, text: int) -> str | None:
        return None if text == PADDING else f" w{text}"

    def memory_bytes(self) -> int:
        return 1234

    def forget(self) -> None:
        """Nothing is remembered."""

    def heartbeat(self) -> float:
        self._write("step")
        self._beats += 1
        if self._beats > self._at >= 0:
            self._fall_ill()
        return 1.0

    def compare(self, steps: int, between: Callable[[], None]) -> dict[str, Any]:
        for _ in range(steps):
            between()
        return {"steps": steps, "same_tokens": True, "ratio": 0.5}

    def warm_up(self) -> list[float]:
        return [1.0, 2.0]

    def _fall_ill(self) -> StepResult | None:
        match self._fault:
            case "not_finite":
                raise NotFinite("a step gave numbers that are none")
            case "malloc":
                raise RuntimeError("[malloc] Unable to allocate 123 bytes.")
            case "memory":
                raise MemoryError
            case "device":
                raise RuntimeError("[METAL] Command buffer execution failed: Caused GPU Hang Error")
            case "hang":
                time.sleep(3600)
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stuck":
                return StepResult(7, (1, 1))
        return None
