"""One transformer layer at one position, cut open where it attends.

Before and behind attention a layer is a pure function of the residual, so these halves can be
compiled; what is attended to is the caller's. Computes what ``moshi_mlx``'s TransformerLayer does,
in the same order, with fewer nodes: one position is a row, [1, dim], and needs no transposing;
queries and keys turn together.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from moshid.model.matrices import product


class Block:
    """A ``TransformerLayer``'s halves, before and behind attention."""

    def __init__(self, layer: Any, *, wide: bool) -> None:
        """Raises ValueError for layers that attend to another sequence, too."""
        if layer.cross_attention is not None:
            raise ValueError("models with cross attention are not supported")
        attention = layer.self_attn
        self.scale: float = attention.scale
        self._layer = layer
        self._heads: int = layer.cfg.num_heads
        self._head_dim: int = layer.cfg.head_dim
        self._rope = attention.rope
        self._into_attention = product(attention.in_proj, wide=wide)
        self._out_of_attention = product(attention.out_proj, wide=wide)
        self._feed_forward = _feed_forward(layer.gating, wide=wide)

    def heads(self, x: mx.array, position: Any) -> list[mx.array]:
        """[1, dim] → query, key and value, each [1, heads, 1, head_dim]."""
        together = self._all_heads(x)
        if self._rope is None:
            return list(mx.split(together, 3, axis=1))
        turning, value = mx.split(together, [2 * self._heads], axis=1)
        return [*mx.split(self._turned(turning, position), 2, axis=1), value]

    def query_and_entry(self, x: mx.array, position: int) -> list[mx.array]:
        """The same with key and value as one, [1, 2 * heads, 1, head_dim]."""
        if self._rope is None:
            return list(mx.split(self._all_heads(x), [self._heads], axis=1))
        query, *entry = self.heads(x, position)
        return [query, mx.concatenate(entry, axis=1)]

    def turn_back(self, keys: mx.array, positions: int) -> mx.array:
        """Keys [1, heads, n, head_dim] as they would be so many positions earlier."""
        if self._rope is None:
            return keys
        one_by_one = keys.reshape(1, -1, 1, self._head_dim).astype(mx.float32)
        return self._turned(one_by_one, -positions).reshape(keys.shape).astype(keys.dtype)

    def after(self, x: mx.array, attended: mx.array) -> mx.array:
        """The residual behind the layer. ``attended``: [1, heads, 1, head_dim]."""
        layer = self._layer
        x = x + layer.layer_scale_1(self._out_of_attention(attended.reshape(1, -1)))
        return x + layer.layer_scale_2(self._feed_forward(layer.norm2(x)))

    def _all_heads(self, x: mx.array) -> mx.array:
        """Queries, keys and values of all heads: [1, 3 * heads, 1, head_dim]."""
        together = self._into_attention(self._layer.norm1(x))
        return together.reshape(1, 3 * self._heads, 1, self._head_dim)

    def _turned(self, x: mx.array, position: Any) -> mx.array:
        """``x`` [1, n, 1, head_dim] with the angles of ``position``, an int or int32 []."""
        rope = self._rope
        return mx.fast.rope(
            x,
            self._head_dim,
            traditional=True,
            base=rope.base,
            scale=rope.scale,
            offset=position,
        )


def _feed_forward(mlp: Any, *, wide: bool) -> Any:
    if "linear1" in mlp:
        first, second = product(mlp.linear1, wide=wide), product(mlp.linear2, wide=wide)
        return lambda x: second(nn.gelu_approx(first(x)))
    into, out_of = product(mlp.linear_in, wide=wide), product(mlp.linear_out, wide=wide)

    def gated(x: mx.array) -> mx.array:
        gate, value = mx.split(into(x), 2, axis=-1)
        return out_of(gate * mx.sigmoid(gate) * value)

    return gated
