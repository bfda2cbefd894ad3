"""The watch over an engine's steps: faults by kind, stuck answers, warming, what counts."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moshid.errors import ModelError, ModelOutOfMemory, ModelStepFailed
from moshid.model import bench, mlx_engine
from moshid.model.engine import FRAME_BUDGET_MS, Sampling, StepResult
from moshid.model.messages import STEP_ACTIVITY, WAKING_ACTIVITY
from moshid.model.monitor import (
    LONG_REST_S,
    STUCK_FRAMES,
    WARM_STEPS_MAX,
    Constancy,
    LocalEngine,
    Monitor,
    is_nearly_greedy,
)
from tests.fakes import small_models
from tests.fakes.toy_engine import ToyEngine

PARROT = itertools.cycle([(1, 2), (3, 4), (5, 6)])


def monitor_of(
    engine: LocalEngine, clock: Callable[[], float] | None = None
) -> tuple[Monitor, list[str]]:
    """A monitor, and what it says that it is doing."""
    doing: list[str] = []

    @contextlib.contextmanager
    def activity(what: str) -> Iterator[None]:
        doing.append(what)
        yield
        doing.append("nothing")

    return Monitor(engine, activity, clock=clock or time.monotonic), doing


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("not_finite", "model.not_finite"),
        ("malloc", "model.out_of_memory"),
        ("memory", "model.out_of_memory"),
        ("device", "model.step_failed"),
    ],
)
def test_a_step_that_raises_is_told_by_kind_and_counts_for_nothing(fault: str, kind: str) -> None:
    monitor, _ = monitor_of(ToyEngine(fault, 0))
    with pytest.raises(ModelError) as caught:
        monitor.step([1, 2])
    assert caught.value.kind == kind
    assert (monitor.last_step, monitor.times.percentiles()) == (None, None)


def test_a_session_that_cannot_begin_is_told_by_kind() -> None:
    """On a GPU, beginning may compile, and be the first to compute."""

    class Unable(ToyEngine):
        def begin(self, _seed: int, _sampling: Sampling) -> None:
            raise RuntimeError("[metal::malloc] Attempting to allocate 1 bytes")

    monitor, _ = monitor_of(Unable())
    with pytest.raises(ModelOutOfMemory):
        monitor.begin(1, Sampling())
    with pytest.raises(ModelOutOfMemory):
        monitor.warm(1, Sampling())


def test_memory_that_cannot_be_measured_is_told_by_kind() -> None:
    def fail() -> float:
        raise RuntimeError("[METAL] Command buffer execution failed: Caused GPU Hang Error")

    with pytest.raises(ModelStepFailed, match="GPU Hang"):
        bench.machine_bps(fail)
    assert bench.machine_bps(lambda: 5.0) in (5.0, None)


TOO_MUCH = """
import mlx.core as mx
from moshid.model.monitor import as_known
try:
    mx.eval(mx.zeros((2**20, 2**25), mx.uint8) + 1)
except (MemoryError, RuntimeError) as e:
    print(as_known(e).kind)
"""


def test_mlx_really_says_what_is_taken_for_want_of_memory() -> None:
    """In a process of its own: MLX counts the array as taken, and holds up all that comes after."""
    done = subprocess.run([sys.executable, "-c", TOO_MUCH], capture_output=True, text=True)
    assert done.stdout == "model.out_of_memory\n", done.stderr


def test_a_bad_frame_is_no_fault_of_the_model() -> None:
    monitor, _ = monitor_of(ToyEngine())
    with pytest.raises(ValueError, match="two tokens"):
        monitor.step([1, 2, 3])


def test_a_step_is_timed_announced_and_remembered() -> None:
    monitor, doing = monitor_of(ToyEngine())
    monitor.note(1.0)
    monitor.step([1, 2])
    assert doing == [STEP_ACTIVITY, "nothing"]
    assert monitor.times.percentiles() is not None
    assert monitor.last_step is not None
    assert monitor.last_step.at.endswith("Z")
    assert monitor.last_step.ms >= 0.0


def test_the_first_step_after_a_long_rest_is_announced_as_such() -> None:
    now_s = [1000.0]
    monitor, doing = monitor_of(ToyEngine(), lambda: now_s[0])
    monitor.note(1.0)
    now_s[0] += LONG_REST_S
    monitor.pulse()
    now_s[0] += LONG_REST_S + 1
    monitor.pulse()
    monitor.pulse()
    assert doing[::2] == [STEP_ACTIVITY, WAKING_ACTIVITY, STEP_ACTIVITY]


def test_a_pulse_is_a_real_step_but_in_no_percentile() -> None:
    engine = ToyEngine()
    monitor, _ = monitor_of(engine)
    assert monitor.pulse() >= 0.0
    assert engine.heard == [], "no conversation heard it"
    assert monitor.last_step is not None
    assert monitor.times.percentiles() is None


def test_warming_draws_as_the_talk_will_and_leaves_it_fresh() -> None:
    journal: list[str] = []
    engine = ToyEngine(write=journal.append)
    monitor, _ = monitor_of(engine)
    sampling = Sampling(audio_top_p=0.5)
    monitor.warm(7, sampling)
    assert journal == [f"begin 7 {sampling}", "step"], "beside it"
    assert monitor.times.percentiles() is None


class SlowToy(ToyEngine):
    """Its first step takes longer than a frame, as that of a device that was idle does."""

    def heartbeat(self) -> float:
        end_s = time.perf_counter() + (0.0 if self._beats else 1.1 * FRAME_BUDGET_MS / 1000)
        while time.perf_counter() < end_s:
            pass
        return super().heartbeat()


def test_a_slow_first_step_is_followed_by_another() -> None:
    journal: list[str] = []
    monitor, _ = monitor_of(SlowToy(write=journal.append))
    monitor.warm(7, Sampling())
    assert 1 < journal.count("step") <= WARM_STEPS_MAX


def run_of(
    constancy: Constancy, frames: int, *, said: StepResult, silent: bool, moving: bool
) -> bool:
    """Whether it is stuck after ``frames`` of the same answer."""
    stuck = False
    for frame in range(frames):
        heard = (frame % 3, 1) if moving else (5, 5)
        stuck = constancy.is_stuck(heard, said, silent=silent)
    return stuck


SAID = StepResult(9, (4, 4))
ENOUGH = STUCK_FRAMES + 1


def test_the_same_frame_over_and_over_is_stuck() -> None:
    assert run_of(Constancy(greedy=False), ENOUGH, said=SAID, silent=False, moving=True)
    assert run_of(Constancy(greedy=False), ENOUGH, said=SAID, silent=True, moving=True)
    assert run_of(Constancy(greedy=True), ENOUGH, said=SAID, silent=False, moving=True)


@pytest.mark.parametrize(
    ("greedy", "frames", "silent", "moving"),
    [
        (False, ENOUGH - 1, False, True),
        (False, 10 * ENOUGH, False, False),
        (True, 10 * ENOUGH, True, True),
    ],
    ids=["not_yet", "nothing_new_is_heard", "greedy_silence"],
)
def test_what_is_not_stuck(greedy: bool, frames: int, silent: bool, moving: bool) -> None:
    constancy = Constancy(greedy=greedy)
    assert not run_of(constancy, frames, said=SAID, silent=silent, moving=moving)


def test_neither_a_parrot_nor_one_that_says_nothing_yet_nor_padding_alone_is_stuck() -> None:
    parrot, mute, padding = (Constancy(greedy=False) for _ in range(3))
    for _ in range(3 * ENOUGH):
        heard = next(PARROT)
        assert not parrot.is_stuck(heard, StepResult(3, heard), silent=True)
        assert not mute.is_stuck(heard, StepResult(3, ()), silent=True)
        assert not padding.is_stuck((1, 1), StepResult(3, heard), silent=True)


@pytest.mark.parametrize(
    ("sampling", "greedy"),
    [
        (Sampling(), False),
        (Sampling(audio_temperature=0.0), True),
        (Sampling(audio_temperature=0.01), True),
        (Sampling(audio_top_k=1), True),
        (Sampling(audio_top_p=0.01), True),
        (Sampling(text_temperature=0.0, text_top_k=1), False),
    ],
)
def test_who_draws_as_good_as_greedily_may_be_silent_alike(
    sampling: Sampling, greedy: bool
) -> None:
    assert is_nearly_greedy(sampling) is greedy


def test_another_frame_in_between_starts_the_count_afresh() -> None:
    constancy = Constancy(greedy=False)
    assert not run_of(constancy, ENOUGH - 1, said=SAID, silent=False, moving=True)
    assert not constancy.is_stuck((1, 1), StepResult(9, (4, 5)), silent=False)
    assert not run_of(constancy, ENOUGH - 1, said=SAID, silent=False, moving=True)


def test_no_conversation_notices_what_keeps_the_model_warm(tmp_path: Path) -> None:
    """With a real model: the same seed says the same, with pulses between its frames or without."""
    folder = small_models.write_checkpoint(tmp_path / "small")
    weights, tokens = folder / "model.safetensors", folder / "tokenizer_spm_small.model"
    engine = mlx_engine.load(folder / "config.json", weights, tokens, "bf16", lambda *_: None)
    monitor, _ = monitor_of(engine)
    frames = [[frame, 1, 2, 3] for frame in range(10)]
    monitor.begin(7, Sampling())
    alone = [monitor.step(frame) for frame in frames]
    monitor.warm(7, Sampling())
    warmed = []
    for frame in frames:
        monitor.pulse()
        warmed.append(monitor.step(frame))
    assert warmed == alone
    assert len({said.tokens for said in alone}) > 5, "and it says something"
