"""Drawing a token from logits. A draw is a pure function of logits and noise.

Every draw is a maximum over logits plus Gumbel noise. The noise of a key is what ``mx.random``
makes of it, and each kind of draw uses it as upstream's ``Sampler`` does: the same key, the same
token. Top-k looks at the k best alone, where upstream writes over all others and draws from the
whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

Draw = Callable[[mx.array, mx.array | None], mx.array]
"""Logits and noise, both [1, vocabulary] → the token, uint32 [1, 1]."""

Noise = Callable[[mx.array], mx.array]
"""uint32 [draws, 2] → float32 [draws, vocabulary]."""


def make_draw(temperature: float, top_k: int, top_p: float, vocabulary: int) -> Draw:
    """How to draw. Temperature 0 is greedy; top-k 0 (or all) and top-p 1 leave nothing out.

    Top-p alone is upstream's; after top-k it chooses among the k.
    """
    if temperature == 0:
        return _greedy
    if not 0 < top_k < vocabulary:
        return _whole(temperature) if top_p >= 1 else _top_p(temperature, top_p)
    return _top_k(temperature, top_k, top_p)


def make_noise(vocabulary: int) -> Noise:
    """Gumbel noise of keys. Make it once: each ``mx.vmap`` leaves 32 bytes behind (seen)."""
    noise: Noise = mx.vmap(lambda key: mx.random.gumbel((vocabulary,), key=key))
    return noise


def _greedy(logits: mx.array, _noise: mx.array | None) -> mx.array:
    return mx.argmax(logits, axis=-1, keepdims=True)


def _whole(temperature: float) -> Draw:
    def draw(logits: mx.array, noise: mx.array | None) -> mx.array:
        return mx.argmax(logits * (1 / temperature) + noise, axis=-1, keepdims=True)

    return draw


def _top_k(temperature: float, top_k: int, top_p: float) -> Draw:
    def draw(logits: mx.array, noise: mx.array | None) -> mx.array:
        negated = logits * (-1 / temperature)
        kept = mx.argpartition(negated, kth=top_k - 1, axis=-1)[..., :top_k]
        negated = mx.take_along_axis(negated, kept, axis=-1)
        scores = mx.take_along_axis(noise, kept, axis=-1) - negated
        if top_p < 1:
            scores = mx.where(_nucleus(-negated, top_p), scores, -mx.inf)
        best = mx.argmax(scores, axis=-1, keepdims=True)
        return mx.take_along_axis(kept, best, axis=-1)

    return draw


def _nucleus(logits: mx.array, top_p: float) -> mx.array:
    """Which of ``logits`` belong to the most probable that have ``top_p`` together."""
    probabilities = mx.softmax(logits.astype(mx.float32), axis=-1)
    more_probable = probabilities[..., None, :] > probabilities[..., :, None]
    before = mx.sum(mx.where(more_probable, probabilities[..., None, :], 0), axis=-1)
    return before < top_p


def _top_p(temperature: float, top_p: float) -> Draw:
    def draw(logits: mx.array, noise: mx.array | None) -> mx.array:
        probabilities = mx.softmax(logits * (1 / temperature), axis=-1)
        order = mx.argsort(probabilities, axis=-1)
        ordered = mx.take_along_axis(probabilities, order, axis=-1)
        kept = mx.where(mx.cumsum(ordered, axis=-1) > 1 - top_p, ordered, 0)
        best = mx.argmax(mx.log(kept) + noise, axis=-1, keepdims=True)
        return mx.take_along_axis(order, best, axis=-1)

    return draw
