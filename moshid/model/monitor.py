"""The one way in which a worker steps its engine: timed, watched from outside, and checked.

Owns what counts as a sick model: a step that raises, and answers that do not move while what is
heard does. Whoever gets one of these errors ends the process; the daemon starts another. A step
that does not return at all is the daemon's watchdog's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol, TypeVar

from moshid.errors import ModelError, ModelOutOfMemory, ModelStepFailed, ModelStuck
from moshid.model.engine import FRAME_BUDGET_MS, Engine, EngineFacts, Sampling, StepResult
from moshid.model.footprint import Footprint
from moshid.model.messages import STEP_ACTIVITY, WAKING_ACTIVITY, LastStep, now_utc
from moshid.model.timings import StepTimes

STUCK_FRAMES: Final = 250
"""20 s: no sampled conversation repeats a frame in every codebook for so long."""

WARM_STEPS_MAX: Final = 3

LONG_REST_S: Final = 60.0
"""Without a step for so long, a model's memory may be in the swap."""

T = TypeVar("T")

Activity = Callable[[str], AbstractContextManager[None]]
"""Tells the control thread what the main thread is doing, and since when."""


class LocalEngine(Engine, Protocol):
    """An engine of this process: its weights are here."""

    @property
    def card(self) -> int:
        """Audio tokens are 0 to card - 1."""

    @property
    def footprint(self) -> Footprint:
        """What it weighs."""

    def warm_up(self) -> list[float]:
        """Steps on silence, then a fresh conversation; milliseconds of each step."""

    def forget(self) -> None:
        """Forget the conversation, and give its memory back."""

    def heartbeat(self) -> float:
        """A real step that no conversation notices; its milliseconds. Raises as ``step``."""

    def compare(self, steps: int, between: Callable[[], None]) -> dict[str, Any]:
        """Upstream's step beside ours, ``between`` called before each pair; it may raise."""


NEARLY_GREEDY: Final = 0.3
"""A temperature, or a top-p, below which a draw is nearly always the same."""


def is_nearly_greedy(sampling: Sampling) -> bool:
    """Whether audio is drawn as good as always alike from the same logits."""
    return (
        sampling.audio_temperature < NEARLY_GREEDY
        or sampling.audio_top_k == 1
        or sampling.audio_top_p < NEARLY_GREEDY
    )


class Constancy:
    """Counts answers that are the same in text and every codebook while what is heard changes.

    Not counted: what is heard stays the same too (digital silence, a parrot of it), and the
    silence of a model that draws greedily, which may well be one frame over and over.
    """

    def __init__(self, *, greedy: bool) -> None:
        self._greedy = greedy
        self._last: tuple[int, tuple[int, ...]] | None = None
        self._last_heard: tuple[int, ...] | None = None
        self._run_frames = 0
        self._changes = 0

    def is_stuck(self, heard: Sequence[int], said: StepResult, *, silent: bool) -> bool:
        """Take one step; ``silent``: its text is padding."""
        now = (said.text, tuple(said.tokens))
        heard = tuple(heard)
        if now != self._last or not said.tokens or (self._greedy and silent):
            self._run_frames = self._changes = 0
        else:
            self._run_frames += 1
            self._changes += heard != self._last_heard
        self._last, self._last_heard = now, heard
        return self._run_frames >= STUCK_FRAMES and 2 * self._changes >= self._run_frames


class Monitor:
    """A loaded engine under watch. Steps as ``Engine`` does, but for the errors."""

    def __init__(
        self,
        engine: LocalEngine,
        activity: Activity,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.times = StepTimes()
        self.last_step: LastStep | None = None
        """The last step that succeeded, of whatever kind."""
        self._activity = activity
        self._clock = clock
        self._stepped_s = float("-inf")
        self._constancy = Constancy(greedy=False)

    @property
    def facts(self) -> EngineFacts:
        """The engine's shape."""
        return self.engine.facts

    def begin(self, seed: int, sampling: Sampling) -> None:
        """Start a session: nothing of an earlier one is left.

        Raises:
            ModelError: as ``step``; on a GPU this may be the first to compute.
        """
        try:
            self.engine.begin(seed, sampling)
        except (MemoryError, RuntimeError, OSError) as e:
            raise as_known(e) from e
        self._constancy = Constancy(greedy=is_nearly_greedy(sampling))

    def step(self, heard: Sequence[int]) -> StepResult:
        """One frame of a conversation.

        Raises:
            ValueError: the frame is not what the engine takes.
            ModelError: the model is sick: not finite, stuck, out of memory, or it failed.
        """
        said, ms = self._timed(lambda: self.engine.step(heard))
        self.times.add(ms)
        silent = self.engine.piece(said.text) is None
        if self._constancy.is_stuck(heard, said, silent=silent):
            raise ModelStuck(f"the same frame came out {STUCK_FRAMES} times in a row")
        return said

    def warm(self, seed: int, sampling: Sampling) -> None:
        """Start a session, and step beside it until a step is in time.

        Drawing as the conversation will: what is compiled for it is compiled now.

        Raises:
            ModelError: as ``step``.
        """
        self.begin(seed, sampling)
        for _ in range(WARM_STEPS_MAX):
            if self.pulse() <= FRAME_BUDGET_MS:
                break

    def pulse(self) -> float:
        """One real step that no conversation notices, whatever goes on; its milliseconds.

        Raises:
            ModelError: as ``step``.
        """
        return self._timed(self.engine.heartbeat)[1]

    def compare(self, steps: int, between: Callable[[], None]) -> dict[str, Any]:
        """Upstream's step beside ours. The conversation does not survive it.

        Raises:
            ModelError: as ``step``, or what ``between`` raises.
        """
        try:
            return self.engine.compare(steps, between)
        except (MemoryError, RuntimeError, OSError) as e:
            raise as_known(e) from e

    def stepped_within(self, seconds: float) -> bool:
        """Whether the last step that succeeded is no older."""
        return self._clock() - self._stepped_s <= seconds

    def note(self, ms: float) -> None:
        """A step of ``ms`` has just succeeded."""
        self._stepped_s = self._clock()
        self.last_step = LastStep(at=now_utc(), ms=round(ms, 3))

    def _timed(self, step: Callable[[], T]) -> tuple[T, float]:
        activity = STEP_ACTIVITY if self.stepped_within(LONG_REST_S) else WAKING_ACTIVITY
        begun_s = time.perf_counter()
        with self._activity(activity):
            try:
                said = step()
            except (MemoryError, RuntimeError, OSError) as e:
                raise as_known(e) from e
        ms = 1000.0 * (time.perf_counter() - begun_s)
        self.note(ms)
        return said, ms


def as_known(error: BaseException) -> ModelError:
    """What MLX or the system said, by kind."""
    text = str(error)
    first = text.splitlines()[0] if text else type(error).__name__
    lowered = text.lower()
    if isinstance(error, MemoryError) or "alloc" in lowered or "memory" in lowered:
        return ModelOutOfMemory(f"no memory for a step: {first}")
    return ModelStepFailed(f"a step failed: {first}")
