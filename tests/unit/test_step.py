"""Our generation step against moshi_mlx's LmGen, token for token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from moshi_mlx import models

from moshid.errors import NotFinite
from moshid.model.compare import lmgen, lmgen_step
from moshid.model.engine import Sampling, StepResult
from moshid.model.step import Stepper
from tests.fakes import small_models

Heard = list[list[int]]

GREEDY = Sampling(0.0, 0, 0.0, 0)
TOP_K = Sampling(0.8, 25, 0.8, 50)
WHOLE = Sampling(0.9, 0, 0.7, 0)
TOP_P = Sampling(0.9, 0, 0.7, 0, text_top_p=0.9, audio_top_p=0.6)
HALF_GREEDY = Sampling(0.0, 0, 0.8, 20)
SAMPLINGS = {
    "greedy": GREEDY,
    "top_k": TOP_K,
    "whole": WHOLE,
    "top_p": TOP_P,
    "half_greedy": HALF_GREEDY,
}

LUT = {"type": "lut", "lut": {"n_bins": 3, "dim": 16, "tokenizer": "noop"}}
DESCRIPTION = LUT | {"lut": LUT["lut"] | {"possible_values": ["bad", "good", "very_good"]}}  # type: ignore[operator]
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "moshi": {},
    "delay_2": {"delays": [0, 0, 2, 2, 2, 0, 2, 2, 2]},
    "more_user_codebooks": {"n_q": 9, "delays": [0, 0, 1, 1, 1, 0, 1, 1, 2, 2]},
    "speaks_more_than_it_hears": {"n_q": 7, "dep_q": 6, "delays": [0, 0, 1, 1, 1, 1, 1, 0]},
    "one_layer": {"num_layers": 1, "dim": 96, "num_heads": 3, "depformer_num_layers": 1},
    "listens_only": {"n_q": 4, "dep_q": 0, "delays": [0, 0, 1, 1, 1]},
    "conditioned": {"conditioners": {"description": DESCRIPTION}},
    "layer_scale": {"layer_scale": 0.1},
    "low_rank": {"depformer_low_rank_embeddings": 16},
    "second_stream": {"demux_second_stream": True},
    "depformer_rope": {"depformer_pos_emb": "rope"},
    "depformer_sees_two_back": {"depformer_context": 2},
    "no_positions": {"positional_embedding": "none"},
}
FOR_LONG = ("moshi", "conditioned")
"""1,000 frames; the others fewer, to save time."""


def user_tokens(frames: int, codebooks: int, card: int = 64) -> Heard:
    return mx.random.randint(0, card, (frames, codebooks), key=mx.random.key(5)).tolist()  # type: ignore[no-any-return]


def condition_of(lm: Any) -> Any:
    provider = lm.condition_provider
    return None if provider is None else provider.condition_tensor("description", "very_good")


def by_lmgen(lm: Any, sampling: Sampling, seed: int, heard: Heard) -> list[StepResult]:
    gen = lmgen(lm, len(heard), sampling)
    condition = condition_of(lm)
    mx.random.seed(seed)
    return [lmgen_step(gen, frame, condition) for frame in heard]


def by_stepper(stepper: Stepper, seed: int, heard: Heard) -> list[StepResult]:
    stepper.reset(seed)
    return [stepper.step(frame) for frame in heard]


def assert_same(
    lm: Any, sampling: Sampling, frames: int, *, wide: bool, seed: int = 11, varied: int = 20
) -> None:
    stepper = Stepper(lm, sampling, condition=condition_of(lm), wide=wide)
    heard = user_tokens(frames, stepper.codebooks_user)
    expected = by_lmgen(lm, sampling, seed, heard)
    assert by_stepper(stepper, seed, heard) == expected
    said = {(r.text, r.tokens) for r in expected}
    assert len(said) > varied, "the model says varied things"


@pytest.mark.parametrize("wide", [False, True], ids=["", "wide"])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_draws_lmgens_tokens_by_every_sampler(sampling: Sampling, wide: bool) -> None:
    lm = small_models.random_lm(small_models.config(dim=64, num_heads=2))
    assert_same(lm, sampling, 150, wide=wide)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_draws_lmgens_tokens_by_every_architecture(name: str) -> None:
    changes = {"dim": 64, "num_heads": 2} | ARCHITECTURES[name]
    lm = small_models.random_lm(small_models.config(**changes))
    assert_same(lm, TOP_K, 1000 if name in FOR_LONG else 120, wide=True)


@pytest.mark.parametrize("wide", [False, True], ids=["", "wide"])
def test_draws_lmgens_tokens_with_layer_norm_and_no_gate(wide: bool) -> None:
    layers = {"norm": "layer_norm", "gating": False}
    lm = small_models.random_lm(small_models.config(dim=64, num_heads=2), layers=layers)
    assert_same(lm, TOP_K, 100, wide=wide)


@pytest.mark.parametrize("wide", [False, True], ids=["", "wide"])
def test_draws_lmgens_tokens_with_biases(wide: bool) -> None:
    """In float32: upstream's biases know no other on a CPU, where ours also compute in bf16."""
    layers = {"bias_attn": True, "bias_ff": True}
    lm = small_models.random_lm(small_models.config(dim=64, num_heads=2), layers=layers)
    in_bf16 = by_stepper(Stepper(lm, GREEDY, wide=wide), 1, user_tokens(20, 4))
    lm.set_dtype(mx.float32)
    assert_same(lm, TOP_K, 100, wide=wide)
    assert len({r.tokens for r in in_bf16}) > 10


@pytest.mark.parametrize("sampling", [GREEDY, TOP_K], ids=["greedy", "top_k"])
@pytest.mark.parametrize("quality", ["q8", "q4"])
def test_draws_lmgens_tokens_quantised(quality: str, sampling: Sampling) -> None:
    lm = small_models.random_lm(small_models.config(), quality=quality)
    assert_same(lm, sampling, 60, wide=False)


def test_a_second_stream_can_be_quantised() -> None:
    """Its text embedding stays as it is while the audio's are quantised."""
    numbers = small_models.config(demux_second_stream=True)
    assert_same(small_models.random_lm(numbers, quality="q8"), TOP_K, 40, wide=False)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling()], ids=["greedy", "top_k"])
def test_draws_lmgens_tokens_on_the_demo_model(sampling: Sampling, demo_checkpoint: Path) -> None:
    numbers = json.loads((demo_checkpoint / "config.json").read_text())
    lm = models.Lm(models.LmConfig.from_config_dict(numbers))
    lm.load_weights(str(demo_checkpoint / numbers["moshi_name"]), strict=True)
    heard = user_tokens(100, 8, card=2048)
    expected = by_lmgen(lm, sampling, 2, heard)
    assert by_stepper(Stepper(lm, sampling), 2, heard) == expected
    assert any(r.text != 3 for r in expected), "it babbles"


def test_a_reset_conversation_is_a_new_one() -> None:
    stepper = Stepper(small_models.random_lm(small_models.config()), TOP_K)
    heard = user_tokens(30, 4)
    first = by_stepper(stepper, 3, heard)
    assert [stepper.step(frame) for frame in heard] != first, "without a reset the past goes on"
    stepper.reset(4, WHOLE)
    assert stepper.step(heard[0]) != first[0], "sampling and seed are the session's"
    stepper.reset(3, TOP_K)
    assert [stepper.step(frame) for frame in heard] == first


def test_the_seed_decides() -> None:
    stepper = Stepper(small_models.random_lm(small_models.config()), TOP_K)
    heard = user_tokens(30, 4)
    assert by_stepper(stepper, 1, heard) != by_stepper(stepper, 2, heard)


def test_exercise_goes_unnoticed() -> None:
    stepper = Stepper(small_models.random_lm(small_models.config()), TOP_K)
    heard = user_tokens(20, 4)
    alone = by_stepper(stepper, 3, heard)
    stepper.reset(3)
    between = []
    for frame in heard:
        between.append(stepper.step(frame))
        assert stepper.exercise(WHOLE).text >= 0
    assert between == alone


@pytest.mark.parametrize("heard", [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 65], [-1, 0, 0, 0]])
def test_refuses_a_frame_it_cannot_take(heard: Sequence[int]) -> None:
    stepper = Stepper(small_models.random_lm(small_models.config()), GREEDY)
    with pytest.raises(ValueError, match="token"):
        stepper.step(heard)


def test_refuses_cross_attention() -> None:
    lm = small_models.random_lm(small_models.config(cross_attention=True))
    with pytest.raises(ValueError, match="cross attention"):
        Stepper(lm, GREEDY)


@pytest.mark.parametrize("sampling", [GREEDY, TOP_K], ids=["greedy", "top_k"])
@pytest.mark.parametrize("broken", ["out_norm", "text_linear", "last_codebook"])
def test_logits_that_are_no_numbers_are_an_error(broken: str, sampling: Sampling) -> None:
    lm = small_models.random_lm(small_models.config())
    modules = {
        "out_norm": lm.out_norm,
        "text_linear": lm.text_linear,
        "last_codebook": lm.depformer.slices[-1].linear_out,
    }
    weight = modules[broken].weight
    weight[7:8] = mx.array(float("nan"), weight.dtype)  # one row, of a head
    stepper = Stepper(lm, sampling)
    with pytest.raises(NotFinite, match="step 0"):
        stepper.step([1, 2, 3, 4])


def test_the_parts_of_a_joined_table_are_the_modules_own() -> None:
    """LmGen goes on with the same arrays, which are there once."""
    lm = small_models.random_lm(small_models.config())
    heard = user_tokens(20, 4)
    before = by_lmgen(lm, TOP_K, 1, heard)
    held_bytes = mx.get_active_memory()
    stepper = Stepper(lm, TOP_K, wide=False)
    assert mx.get_active_memory() <= 1.01 * held_bytes
    assert by_lmgen(lm, TOP_K, 1, heard) == before == by_stepper(stepper, 1, heard)
