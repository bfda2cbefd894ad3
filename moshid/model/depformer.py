"""The depth transformer: one frame's audio tokens, codebook after codebook, from one trunk output.

Every codebook has weights of its own. Within a frame a codebook attends to those before it, so
their keys and values live as long as the pass: there is no cache to keep or to reset.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from moshid.model.block import Block
from moshid.model.embeddings import one_embedding
from moshid.model.matrices import joined, product
from moshid.model.samplers import Draw


class Depformer:
    """All slices of an ``Lm``'s depformer, their input projections joined."""

    def __init__(self, depformer: Any, *, wide: bool) -> None:
        slices = depformer.slices
        self._into = joined([s.linear_in for s in slices], wide=wide)
        self._slices = [_Slice(s, wide=wide) for s in slices]

    def __call__(
        self, trunk: mx.array, text: mx.array, draw: Draw, noise: mx.array | None
    ) -> tuple[list[mx.array], list[mx.array]]:
        """Each codebook's token [1, 1], and the logits [1, vocabulary] it was drawn from.

        ``trunk``: [1, dim]; ``text``: [1, 1]; ``noise``: float32 [codebooks, vocabulary].
        """
        count = len(self._slices)
        inputs = mx.split(self._into(trunk), count, axis=-1)
        noises = [None] * count if noise is None else mx.split(noise, count)
        past: list[mx.array | None] = [None] * self._slices[0].layers
        tokens, all_logits = [], []
        token = text
        for index, (part, x, own_noise) in enumerate(
            zip(self._slices, inputs, noises, strict=True)
        ):
            logits = part(index, x, token, past)
            token = draw(logits, own_noise)
            tokens.append(token)
            all_logits.append(logits)
        return tokens, all_logits


class _Slice:
    """One codebook's embedding, layers and head."""

    def __init__(self, part: Any, *, wide: bool) -> None:
        self._embedding = one_embedding(part.emb)
        self._blocks = [Block(layer, wide=wide) for layer in part.transformer.layers]
        self._context: int = part.transformer.cfg.context
        self._head = product(part.linear_out, wide=wide)
        self.layers = len(self._blocks)

    def __call__(
        self, index: int, x: mx.array, token: mx.array, past: list[mx.array | None]
    ) -> mx.array:
        """Logits of codebook ``index``. ``past``: each layer's keys and values so far, as one
        array [1, 2 * heads, positions, head_dim]; takes in its own."""
        x = x + self._embedding(token.reshape(1))
        for layer, block in enumerate(self._blocks):
            query, entry = block.query_and_entry(x, index)
            if (held := past[layer]) is not None:
                seen = held[:, :, max(0, held.shape[2] - self._context) :]
                entry = mx.concatenate([seen, entry], axis=2)
            past[layer] = entry
            keys, values = mx.split(entry, 2, axis=1)
            x = block.after(x, _attend(query, keys, values, block.scale))
        return self._head(x)


def _attend(query: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
    if keys.shape[2] == 1:
        return values  # all attention is on oneself
    return mx.fast.scaled_dot_product_attention(query, keys, values, scale=scale)
