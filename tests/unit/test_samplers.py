"""Drawing from logits: upstream's draws key for key, distributions, and the repetition penalty."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from moshi_mlx.utils import sampling as upstream

from moshid.model.engine import Sampling
from moshid.model.repetition import Repetition, penalise
from moshid.model.samplers import make_draw, make_noise

VOCABULARY = 300
UPSTREAM: dict[str, tuple[tuple[float, int, float], upstream.Sampler]] = {
    "greedy": ((0.0, 0, 1.0), upstream.Sampler(temp=0.0)),
    "whole": ((0.7, 0, 1.0), upstream.Sampler(temp=0.7, top_p=1.0)),
    "top_k": ((0.8, 25, 1.0), upstream.Sampler(temp=0.8, top_k=25)),
    "top_k_of_one": ((0.8, 1, 1.0), upstream.Sampler(temp=0.8, top_k=1)),
    "top_k_of_all": ((0.8, VOCABULARY, 1.0), upstream.Sampler(temp=0.8, top_p=1.0)),
    "top_p": ((0.9, 0, 0.8), upstream.Sampler(temp=0.9, top_p=0.8)),
}


def logits_of(seed: int, dtype: mx.Dtype, size: int = VOCABULARY) -> mx.array:
    return (3 * mx.random.normal((1, size), key=mx.random.key(seed))).astype(dtype)


def drawn(
    draw: Callable[[mx.array, mx.array | None], mx.array], logits: mx.array, draws: int
) -> Counter[int]:
    """How often each token comes in ``draws`` draws from the same logits."""
    keys = mx.random.split(mx.random.key(1), draws)
    noise = make_noise(logits.shape[-1])(keys)
    return Counter(int(draw(logits, noise[i : i + 1]).item()) for i in range(draws))


def chi_squared(seen: Counter[int], probabilities: dict[int, float]) -> float:
    draws = sum(seen.values())
    expected = {token: draws * p for token, p in probabilities.items()}
    return sum((seen[t] - e) ** 2 / e for t, e in expected.items())


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("name", UPSTREAM)
def test_the_same_key_draws_upstreams_token(name: str, dtype: mx.Dtype) -> None:
    """bf16 has many equal logits, at the edge of the k best too."""
    ours, theirs = UPSTREAM[name]
    draw = make_draw(*ours, VOCABULARY)
    tokens = set()
    for seed in range(60):
        logits = logits_of(seed, dtype)
        mx.random.seed(seed)
        expected = int(theirs(logits)[0].item())
        _, key = mx.random.split(mx.random.key(seed))
        token = draw(logits, make_noise(VOCABULARY)(key[None]))
        assert token.shape == (1, 1)
        assert int(token.item()) == expected
        tokens.add(expected)
    assert len(tokens) > 30


def test_noise_of_many_keys_is_the_noise_of_each() -> None:
    keys = mx.random.split(mx.random.key(3), 8)
    one_by_one = [mx.random.gumbel((1, 1, 501), key=keys[i])[0, 0] for i in range(8)]
    assert mx.array_equal(make_noise(501)(keys), mx.stack(one_by_one))


def softmax(values: dict[int, float], temperature: float) -> dict[int, float]:
    weights = {t: math.exp(v / temperature) for t, v in values.items()}
    return {t: w / sum(weights.values()) for t, w in weights.items()}


def test_top_k_draws_by_the_probabilities_of_the_k() -> None:
    """0.999 of the chi-squared distribution with 4 degrees of freedom is 18.5."""
    logits = logits_of(4, mx.float32, 40)
    best = dict(sorted(enumerate(logits[0].tolist()), key=lambda e: -e[1])[:5])
    seen = drawn(make_draw(0.8, 5, 1.0, 40), logits, 4000)
    assert seen.keys() <= best.keys()
    assert chi_squared(seen, softmax(best, 0.8)) < 18.5
    assert chi_squared(seen, softmax(best, 1.2)) > 18.5, "the test can tell"


def test_top_p_of_top_k_draws_by_the_probabilities_of_those_left() -> None:
    """0.999 of the chi-squared distribution with 2 degrees of freedom is 13.8."""
    values = [0.0, 2.0, 1.0, 2.5, -1.0, 1.9, 0.5]
    seen = drawn(make_draw(1.0, 5, 0.8, 7), mx.array([values]), 3000)
    kept = {
        t: values[t] for t in (3, 1, 5)
    }  # 0.40, 0.24 and 0.22: 0.64 before the last, 0.86 with it
    assert seen.keys() == kept.keys()
    assert chi_squared(seen, softmax(kept, 1.0)) < 13.8


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"text_temperature": -0.1}, "temperature"),
        ({"audio_top_k": -1}, "top-k"),
        ({"text_top_p": 0.0}, "top-p"),
        ({"audio_top_p": 1.1}, "top-p"),
        ({"text_repetition_penalty": 0.0}, "penalty"),
        ({"text_repetition_window": 0}, "window"),
        ({"text_repetition_window": 3001}, "window"),
    ],
)
def test_what_no_draw_can_be_made_of_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Sampling(**wrong)


def test_the_penalty_makes_what_was_said_less_likely() -> None:
    repetition = Repetition(2.0, window=4, silent={3})
    logits = mx.array([[1.0, -1.0, 4.0, 8.0, 5.0]])
    for token in (4, 3, 1, 1, 2):  # the first is forgotten, 3 is no word
        repetition.push(token)
    words, factors = repetition.arrays()
    assert words.shape == factors.shape == (4,)
    assert penalise(logits, words, factors).tolist() == [[1.0, -2.0, 2.0, 8.0, 5.0]]


def test_where_nothing_was_said_nothing_is_less_likely() -> None:
    repetition = Repetition(2.0, window=4, silent={3})
    repetition.push(3)
    logits = mx.array([[1.0, -1.0, 4.0]]).astype(mx.bfloat16)
    penalised = penalise(logits, *repetition.arrays())
    assert penalised.dtype == mx.bfloat16
    assert penalised.tolist() == logits.tolist()
