"""What a step costs the device, and what a talk leaves behind."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections import deque
from typing import Any

import mlx.core as mx
import pytest

from moshid.model.compare import lmgen, lmgen_step
from moshid.model.engine import Sampling
from moshid.model.graph import metered
from moshid.model.step import Stepper
from tests.fakes import small_models, step_child

LIKE_MOSHI: dict[str, Any] = {
    "n_q": 16,
    "dep_q": 8,
    "delays": [0] + ([0] + [1] * 7) * 2,
    "num_layers": 4,
}
TOP_K = Sampling(0.8, 25, 0.8, 50)


def run_child(*args: str) -> list[Any]:
    command = [sys.executable, "-m", "tests.fakes.step_child", *args]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    tokens: list[Any] = json.loads(out)
    return tokens


@pytest.mark.parametrize("wide", [False, True], ids=["", "wide"])
@pytest.mark.parametrize("sampling", [TOP_K, Sampling(0.0, 0, 0.0, 0)], ids=["top_k", "greedy"])
def test_one_wait_a_frame_and_half_the_nodes(sampling: Sampling, wide: bool) -> None:
    lm = small_models.random_lm(small_models.config(**LIKE_MOSHI))
    gen, stepper = lmgen(lm, 10, sampling), Stepper(lm, sampling, wide=wide)
    for frame in range(5):
        heard = [frame + k for k in range(8)]
        with metered() as theirs:
            lmgen_step(gen, heard)
        with metered() as ours:
            stepper.step(heard)
        assert ours.waits == 1
    assert theirs.waits == 21, "17 + 2 looks at tokens, the text and the audio taken"
    assert 100 < ours.nodes <= 0.5 * theirs.nodes


def test_the_meter_counts_what_is_evaluated() -> None:
    x = mx.ones((1, 4))
    weight = mx.ones(4)
    mx.eval(x, weight)
    with metered() as meter:
        y = mx.negative(mx.negative(x))
        z = mx.fast.rms_norm(y, weight, 1e-5)
        mx.async_eval(z)
        assert (meter.nodes, meter.waits) == (3, 0)
        assert float(mx.sum(z).item()) == pytest.approx(-4 * -1.0, abs=1e-3)
    assert meter.waits == 1
    counted = (meter.nodes, meter.waits)
    mx.eval(mx.negative(x))
    assert (meter.nodes, meter.waits) == counted, "it is over"


def test_a_new_session_computes_nothing() -> None:
    stepper = Stepper(small_models.random_lm(small_models.config()), TOP_K)
    stepper.step([1, 2, 3, 4])
    with metered() as meter:
        stepper.reset(3, Sampling())
    assert (meter.nodes, meter.waits) == (0, 0)


def test_nothing_of_one_talk_is_in_the_next() -> None:
    """After a talk, the same seed says what it says in a process that knows no other talk."""
    stepper = Stepper(small_models.random_lm(small_models.config()), Sampling())
    stepper.reset(99, Sampling(1.0, 0, 1.0, 0, text_repetition_penalty=3.0))
    for i in range(300):
        stepper.step([i % 64] * 4)
    mx.random.seed(5)  # the global state is nobody's
    assert [step_child.tokens_of(stepper, 7, 40)] == run_child("7", "40")
    assert [step_child.tokens_of(stepper, 8, 40)] != run_child("7", "40")


def test_compiled_stages_draw_the_same_tokens() -> None:
    compiled, plain = run_child("7", "60", "--compiled")
    assert compiled == plain
    assert len({tuple(tokens) for tokens in plain}) > 30


def objects_below(root: object) -> int:
    """Python objects that can be reached from ``root`` through containers and our own instances."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, (list, tuple, set, dict, deque)) or "moshid" in type(thing).__module__:
            waiting += gc.get_referents(thing)
    return len(seen)


def test_no_object_grows_with_the_talk() -> None:
    numbers = small_models.config(dim=64, num_heads=1, num_layers=1, context=40)
    stepper = Stepper(small_models.random_lm(numbers), Sampling(text_repetition_penalty=1.1))
    objects, device_bytes = [], []
    for _ in range(2):
        for frame in range(300):
            stepper.step([frame % 64] * 4)
        objects.append(objects_below(stepper))
        device_bytes.append(mx.get_active_memory())
    assert objects[0] > 300, "the history is among them"
    assert abs(objects[1] - objects[0]) < 100, "integers come and go"
    assert device_bytes[1] == device_bytes[0]
