"""Our step beside ``moshi_mlx``'s ``LmGen`` on the same loaded model, in turns. For benchmarks.

The floor is what no step can be faster than: the bytes that it has to read, at the bandwidth that
the device showed just before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from moshi_mlx import models
from moshi_mlx.utils.sampling import Sampler

from moshid import mlx_setup
from moshid.model.engine import Sampling, StepResult
from moshid.model.graph import metered
from moshid.model.step import Stepper
from moshid.model.timings import StepTimes

UNCOUNTED_STEPS: Final = 5
"""The first of each: allocations, and what is compiled at first use."""

STEPS_MAX: Final = 4000
"""``LmGen`` attends to the wrong positions after 4,096."""

_BANDWIDTH_BYTES: Final = 1 << 28
_GATHERED: Final = ("text_emb.", "audio_embs.", ".emb.weight", ".emb.scales", ".emb.biases")
_UNUSED: Final = ("condition_provider.", "extra_heads.")


def compare(
    lm: Any,
    stepper: Stepper,
    steps: int,
    *,
    condition: Any = None,
    sampling: Sampling | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Step both ``steps`` times in turns, on the same tokens and seed; what they took, for JSON.

    ``between`` is called before each pair of steps and may raise. Starts ``stepper`` afresh,
    before and after.
    """
    if not UNCOUNTED_STEPS < steps <= STEPS_MAX:
        raise ValueError(f"steps are {UNCOUNTED_STEPS + 1} to {STEPS_MAX}")
    sampling = sampling or Sampling()
    ours = _Ours(stepper, sampling)
    theirs = _Theirs(lm, condition, steps, sampling)
    heard = _random_frames(lm, stepper.codebooks_user, steps)
    try:
        same = _in_turns((ours, theirs), heard, between)
        meters = [_meter(runner, heard[-1]) for runner in (ours, theirs)]
    finally:
        stepper.reset()
        theirs.forget()
    return {"steps": steps, "same_tokens": same} | _figures(lm, ours, theirs, meters, steps)


def lmgen(lm: Any, steps: int, sampling: Sampling) -> Any:
    """An ``LmGen`` with fresh caches that draws by ``sampling``, as far as upstream can."""
    for cache in lm.transformer_cache:
        cache.reset()
    return models.LmGen(
        lm,
        steps,
        _sampler(
            sampling.text_temperature,
            sampling.text_top_k,
            sampling.text_top_p,
            lm.cfg.text_out_vocab_size,
        ),
        _sampler(
            sampling.audio_temperature,
            sampling.audio_top_k,
            sampling.audio_top_p,
            lm.cfg.audio_vocab_size - 1,
        ),
    )


def lmgen_step(gen: Any, heard: Sequence[int], condition: Any = None) -> StepResult:
    """One step of an ``LmGen``, by our names."""
    text = int(gen.step(mx.array([heard], mx.int32), condition)[0].item())
    tokens = gen.last_audio_tokens() if gen.main_codebooks else None
    return StepResult(text, () if tokens is None else tuple(tokens[0].tolist()))


class _Ours:
    def __init__(self, stepper: Stepper, sampling: Sampling) -> None:
        stepper.reset(seed=0, sampling=sampling)
        self.times = StepTimes(STEPS_MAX)
        self.step = stepper.step


class _Theirs:
    def __init__(self, lm: Any, condition: Any, steps: int, sampling: Sampling) -> None:
        self.times = StepTimes(STEPS_MAX)
        self._lm = lm
        self._gen = lmgen(lm, steps + 1, sampling)
        self._condition = condition
        mx.random.seed(0)

    def step(self, heard: Sequence[int]) -> StepResult:
        return lmgen_step(self._gen, heard, self._condition)

    def forget(self) -> None:
        for cache in self._lm.transformer_cache:
            cache.reset()
        mx.clear_cache()


def _in_turns(
    runners: tuple[_Ours, _Theirs], heard: list[list[int]], between: Callable[[], None]
) -> bool:
    same = True
    for index, frame in enumerate(heard):
        between()
        said = []
        for runner in runners if index % 2 else runners[::-1]:
            begun = time.perf_counter()
            said.append(runner.step(frame))
            if index >= UNCOUNTED_STEPS:
                runner.times.add(1000 * (time.perf_counter() - begun))
        same = same and said[0] == said[1]
    return same


def _meter(runner: _Ours | _Theirs, heard: list[int]) -> Any:
    with metered() as meter:
        runner.step(heard)
    return meter


def _figures(
    lm: Any, ours: _Ours, theirs: _Theirs, meters: list[Any], steps: int
) -> dict[str, Any]:
    times = [runner.times.bench() for runner in (ours, theirs)]
    needed_bytes = step_bytes(lm, steps // 2)
    bandwidth = read_bandwidth()
    floor_ms = 1000 * needed_bytes / bandwidth
    our_ms, their_ms = (
        {"p50": t.p50, "p95": t.p95, "p99": t.p99, "min": t.min, "max": t.max} for t in times
    )
    return {
        "ours_ms": our_ms,
        "lmgen_ms": their_ms,
        "ratio": round(times[0].p50 / times[1].p50, 3),
        "nodes": {"ours": meters[0].nodes, "lmgen": meters[1].nodes},
        "waits": {"ours": meters[0].waits, "lmgen": meters[1].waits},
        "step_bytes": needed_bytes,
        "bandwidth_bytes_per_s": round(bandwidth),
        "floor_ms": round(floor_ms, 3),
        "ours_to_floor": round(times[0].p50 / floor_ms, 2),
    }


def step_bytes(lm: Any, position: int) -> int:
    """What a step at ``position`` has to read: every matrix once, and keys and values."""
    weights = sum(
        w.nbytes
        for name, w in tree_flatten(lm.parameters())
        if not name.startswith(_UNUSED) and not any(part in name for part in _GATHERED)
    )
    cfg = lm.cfg.transformer
    attended = min(position, cfg.context)
    item_bytes = lm.out_norm.weight.dtype.size
    return int(weights + 2 * cfg.num_layers * cfg.d_model * attended * item_bytes)


def read_bandwidth() -> float:
    """Bytes a second that one pass over memory reaches, on the device that steps; best of five."""
    once = _copy_on_cpu() if mlx_setup.computes_on_cpu() else _copy_on_gpu()
    times_s = []
    for _ in range(6):
        begun = time.perf_counter()
        once()
        times_s.append(time.perf_counter() - begun)
    return 2 * _BANDWIDTH_BYTES / min(times_s[1:])


def _copy_on_cpu() -> Callable[[], None]:
    source = np.ones(_BANDWIDTH_BYTES // 8)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def _copy_on_gpu() -> Callable[[], None]:
    source = mx.zeros(_BANDWIDTH_BYTES // 4)
    return lambda: mx.eval(source + 1)


def _random_frames(lm: Any, codebooks: int, steps: int) -> list[list[int]]:
    rng = random.Random(0)
    card = lm.cfg.audio_vocab_size - 1
    return [[rng.randrange(card) for _ in range(codebooks)] for _ in range(steps)]


def _sampler(temperature: float, top_k: int, top_p: float, vocabulary: int) -> Any:
    """Upstream's sampler; it refuses a top-k as large as the vocabulary, which means all of it."""
    if 0 < top_k < vocabulary:
        return Sampler(temp=temperature, top_k=top_k)
    return Sampler(temp=temperature, top_p=top_p, top_k=None)
