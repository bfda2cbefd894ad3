"""The main transformer for one position, as a row of pure stages with attention in between.

A stage reaches from behind one attention to before the next, so each can be compiled once; only the
attended window changes its length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from moshid.model.block import Block
from moshid.model.embeddings import StreamEmbeddings
from moshid.model.window import Windows

Stage = Callable[..., Any]
Compile = Callable[[Stage], Stage]


class Trunk:
    """An ``Lm``'s embeddings and transformer, to the last attention, and what comes ``behind``."""

    def __init__(self, lm: Any, condition: Any, compile_stage: Compile, *, wide: bool) -> None:
        self._embeddings = StreamEmbeddings(lm)
        self._condition = None if condition is None else condition.tensor
        self._blocks = [Block(layer, wide=wide) for layer in lm.transformer.layers]
        self._norm = lm.out_norm
        self._window_size: int = lm.cfg.transformer.context + 1
        self._first = compile_stage(self._hear)
        self._between = [
            compile_stage(_between(one, other))
            for one, other in zip(self._blocks, self._blocks[1:], strict=False)
        ]

    def windows(self) -> Windows:
        """Empty windows."""
        return Windows([block.turn_back for block in self._blocks], self._window_size)

    def __call__(
        self, text: int, audio: Sequence[int], windows: Windows
    ) -> tuple[mx.array, mx.array]:
        """The residual [1, dim] before the last attention, and what that attended to, at the next
        position of ``windows``."""
        windows.rebase()
        position = windows.position
        offset = mx.array(position, mx.int32)
        first, *others = zip(self._blocks, windows, strict=True)
        x, *heads = self._first(self._embeddings.ids(text, audio), offset)
        attended = first[1].attend(position, heads, first[0].scale)
        for stage, (block, window) in zip(self._between, others, strict=True):
            x, *heads = stage(x, attended, offset)
            attended = window.attend(position, heads, block.scale)
        windows.position += 1
        return x, attended

    def behind(self, x: mx.array, attended: mx.array) -> mx.array:
        """What the heads and the depformer see: [1, dim]."""
        normed: mx.array = self._norm(self._blocks[-1].after(x, attended))
        return normed

    def _hear(self, ids: Sequence[mx.array], offset: mx.array) -> Any:
        x = self._embeddings(ids)
        if self._condition is not None:
            x = x + self._condition
        return x, *self._blocks[0].heads(x, offset)


def _between(one: Block, other: Block) -> Stage:
    def stage(x: mx.array, attended: mx.array, offset: mx.array) -> Any:
        x = one.after(x, attended)
        return x, *other.heads(x, offset)

    return stage
