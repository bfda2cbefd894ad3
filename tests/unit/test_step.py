"""Our generation step against moshi_mlx's LmGen, token for token, and against full attention."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from moshi_mlx import models
from moshi_mlx.utils.sampling import Sampler

from moshid.model.engine import Sampling, StepResult
from moshid.model.step import Stepper, make_sampler, window_cache
from tests.fakes import small_models

GREEDY = Sampling(0.0, 0, 0.0, 0)
TOP_K = Sampling(0.8, 25, 0.8, 50)
WHOLE = Sampling(0.9, 0, 0.7, 0)
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "moshi": {},
    "delay_2": {"delays": [0, 0, 2, 2, 2, 0, 2, 2, 2]},
    "more_user_codebooks": {"n_q": 9, "delays": [0, 0, 1, 1, 1, 0, 1, 1, 2, 2]},
    "one_layer": {"num_layers": 1, "dim": 96, "num_heads": 3, "depformer_num_layers": 1},
}


def user_tokens(frames: int, codebooks: int, card: int = 64) -> npt.NDArray[np.int32]:
    return np.random.default_rng(5).integers(0, card, (frames, codebooks)).astype(np.int32)


def by_lmgen(
    lm: Any, sampling: Sampling, seed: int, heard: npt.NDArray[np.int32]
) -> list[StepResult]:
    for cache in lm.transformer_cache:
        cache.reset()
    gen = models.LmGen(
        lm,
        len(heard),
        make_sampler(sampling.text_temperature, sampling.text_top_k, lm.cfg.text_out_vocab_size),
        make_sampler(sampling.audio_temperature, sampling.audio_top_k, lm.cfg.audio_vocab_size - 1),
    )
    mx.random.seed(seed)
    results = []
    for frame in heard:
        text = int(gen.step(mx.array(frame)[None])[0].item())
        tokens = gen.last_audio_tokens()
        results.append(StepResult(text, () if tokens is None else tuple(tokens[0].tolist())))
    return results


def by_stepper(stepper: Stepper, seed: int, heard: npt.NDArray[np.int32]) -> list[StepResult]:
    mx.random.seed(seed)
    return [stepper.step(frame) for frame in heard.tolist()]


@pytest.mark.parametrize("sampling", [GREEDY, TOP_K, WHOLE], ids=["greedy", "top_k", "whole"])
@pytest.mark.parametrize("changes", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_draws_lmgens_tokens_seed_for_seed(changes: dict[str, Any], sampling: Sampling) -> None:
    lm = small_models.random_lm(small_models.config(**{"dim": 64, "num_heads": 2} | changes))
    stepper = Stepper(lm, sampling)
    heard = user_tokens(200, stepper.codebooks_user)
    expected = by_lmgen(lm, sampling, 11, heard)
    assert by_stepper(stepper, 11, heard) == expected
    assert len({r.tokens for r in expected}) > 20, "the model says varied things"


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
    assert by_stepper(stepper, 3, heard) != first, "without a reset the past goes on"
    stepper.reset()
    assert by_stepper(stepper, 3, heard) == first


def test_the_seed_decides() -> None:
    lm = small_models.random_lm(small_models.config())
    heard = user_tokens(30, 4)
    runs = [by_stepper(Stepper(lm, TOP_K), seed, heard) for seed in (1, 2)]
    assert runs[0] != runs[1]


@pytest.mark.parametrize("heard", [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, 65], [-1, 0, 0, 0]])
def test_refuses_a_frame_it_cannot_take(heard: Sequence[int]) -> None:
    stepper = Stepper(small_models.random_lm(small_models.config()), GREEDY)
    with pytest.raises(ValueError, match="token"):
        stepper.step(heard)


def test_a_top_k_of_the_whole_vocabulary_is_no_top_k() -> None:
    assert make_sampler(0.8, 300, 300) == Sampler(temp=0.8, top_p=1.0, top_k=None)
    assert make_sampler(0.8, 25, 300) == Sampler(temp=0.8, top_k=25)


def test_the_window_attends_to_the_last_context_positions_for_ever() -> None:
    """Against an unbounded cache in order of time, which upstream slices rightly; its own ring
    is the counter-example."""
    numbers = small_models.config(context=24)
    lm = small_models.random_lm(numbers)
    lm.set_dtype(mx.float32)
    lm.transformer.cfg.max_seq_len = 40
    caches = {
        "ours": window_cache(lm),
        "reference": lm.transformer.make_cache(),
        "upstream": lm.transformer.make_rot_cache(),
    }
    worst = dict.fromkeys(caches, 0.0)
    for x in mx.random.normal((200, 1, 1, 256)):
        outs = {name: lm.transformer(x, cache=cache) for name, cache in caches.items()}
        for name, out in outs.items():
            error = mx.abs(out - outs["reference"]).max() / mx.abs(out).max()
            worst[name] = max(worst[name], float(error.item()))
    assert worst["ours"] < 1e-5
    assert worst["upstream"] > 1e-2, "this test can see the seam"
