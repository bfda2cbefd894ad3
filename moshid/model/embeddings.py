"""What the model hears in one step: the embeddings of all streams, by one gather from one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from moshid.model.matrices import PARTS, join_rows

Rows = Callable[[mx.array], mx.array]
"""int32 [n] → [n, dim]."""


class StreamEmbeddings:
    """The text's and the audio codebooks' embeddings of an ``Lm``, whose modules become views."""

    def __init__(self, lm: Any) -> None:
        joined = _alike(lm.text_emb, lm.audio_embs)
        self._text = None if joined else one_embedding(lm.text_emb)
        streams = ([lm.text_emb] if joined else []) + list(lm.audio_embs)
        self._starts: list[int] = list(accumulate((m.weight.shape[0] for m in streams), initial=0))
        self._rows = _gather(streams[0], join_rows(streams)) if streams else None

    def ids(self, text: int, audio: Sequence[int]) -> list[mx.array]:
        """A step's tokens as rows of the table; the text's apart and last where it has its own."""
        tokens = audio if self._text else [text, *audio]
        rows = [start + token for start, token in zip(self._starts, tokens, strict=False)]
        tables = [mx.array(rows, mx.int32)]
        return tables if self._text is None else [*tables, mx.array([text], mx.int32)]

    def __call__(self, ids: Sequence[mx.array]) -> mx.array:
        """→ [1, dim]: the sum in upstream's order, rounded after each term."""
        terms: list[mx.array] = []
        if self._text is not None:
            terms.append(self._text(ids[1]))
        if self._rows is not None:
            terms += mx.split(self._rows(ids[0]), len(self._starts) - 1)
        return reduce(lambda x, term: x + term, terms)


def one_embedding(module: Any) -> Rows:
    """One embedding alone, with what a low rank or a second stream puts behind its table.

    The second stream of a demultiplexed embedding stays empty, as it does under ``LmGen``.
    """
    gather = _gather(module, {name: module[name] for name in PARTS if name in module})
    behind = _behind(module)
    return gather if behind is None else lambda ids: behind(gather(ids))


def _behind(module: Any) -> Any:
    if getattr(module, "demux_second_stream", False):
        return module.out1
    return getattr(module, "low_rank", None)


def _alike(text: Any, audio: Sequence[Any]) -> bool:
    """Whether all can share a table: of one kind, and with nothing behind it."""
    return type(text) is type(audio[0]) and _behind(text) is None if audio else False


def _gather(like: Any, arrays: dict[str, mx.array]) -> Rows:
    """Gathering from a table that is quantised as the module ``like`` is, or is not."""
    weight = arrays["weight"]
    if not isinstance(like, nn.QuantizedEmbedding):
        return lambda ids: weight[ids]
    scales, biases = arrays["scales"], arrays["biases"]
    group_size, bits = like.group_size, like.bits

    def gather(ids: mx.array) -> mx.array:
        return mx.dequantize(weight[ids], scales[ids], biases[ids], group_size, bits)

    return gather
