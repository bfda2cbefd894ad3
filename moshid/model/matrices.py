"""Linear maps of one position, in the layout that the device multiplies fastest.

A product gives the same bits as the module it is made of. On a GPU it reads the module's own
array. On a CPU, MLX multiplies a row by a matrix in a plain loop or by the reference BLAS, one sum
of products after the other. With float32 columns the same sums, in the same order, are taken side
by side, in half the time: ``wide`` keeps such a copy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn

from moshid import mlx_setup
from moshid.model import memory

_JOINED: Final = re.compile(r"(text_emb|audio_embs\.\d+|depformer\.slices\.\d+\.linear_in)\.")

Product = Callable[[mx.array], mx.array]
"""[1, columns] → [1, rows], in the dtype of what it is given."""

PARTS: Final = ("weight", "scales", "biases")
"""A matrix's arrays, one row for each of its rows; the last two of a quantised one only."""

BLOCK_COLUMNS_MAX: Final = 2048
"""Of a wide copy: so many running sums stay in the first-level cache."""

WIDE_MAX_BYTES: Final = 1 << 30
"""Above this a CPU cannot step in real time, wide or not, and the copy would delay loading."""


def product(linear: Any, *, wide: bool) -> Product:
    """``linear`` (plain or quantised) as a function, as exact as ``linear(x)`` itself."""
    if isinstance(linear, nn.QuantizedLinear):
        return _method(linear)
    bias = linear.bias if "bias" in linear else None
    return _wide(linear.weight, bias) if wide else _plain(linear.weight, bias)


def joined(linears: Sequence[Any], *, wide: bool) -> Product:
    """Maps of the same input as one; its rows are theirs, in order. They become views of it."""
    arrays = join_rows(linears)
    first = linears[0]
    if isinstance(first, nn.QuantizedLinear):
        whole = nn.QuantizedLinear(first.group_size, 1, False, first.group_size, first.bits)
    else:
        whole = nn.Linear(1, 1, bias=False)
    for name, array in arrays.items():
        whole[name] = array
    return product(whole, wide=wide)


def join_rows(modules: Sequence[Any]) -> dict[str, mx.array]:
    """The arrays of ``modules`` (of one width and kind), one below the other.

    The modules keep views, so that the join takes no memory once it is done.
    """
    arrays = {}
    for name in PARTS:
        if name not in modules[0]:
            continue
        whole = mx.concatenate([m[name] for m in modules])
        mx.eval(whole)
        start = 0
        for module in modules:
            stop = start + module[name].shape[0]
            module[name] = whole[start:stop]
            mx.eval(module[name])
            start = stop
        arrays[name] = whole
    return arrays


def is_joined(name: str) -> bool:
    """Whether the parameter of that name moves into a joined array when a model is made ready:
    embeddings of streams, and the depformer's input projections."""
    return _JOINED.match(name) is not None


def wants_wide(lm: Any, *, on_cpu: bool) -> bool:
    """Whether float32 copies of ``lm``'s matrices pay here, and fit."""
    linears = [m for m in lm.modules() if isinstance(m, nn.Linear)]
    extra_bytes = sum(4 * m.weight.size for m in linears)
    free_bytes = memory.available_bytes()
    limit_bytes = WIDE_MAX_BYTES if free_bytes is None else min(WIDE_MAX_BYTES, free_bytes // 4)
    return on_cpu and 0 < extra_bytes <= limit_bytes


def _method(linear: Any) -> Product:
    def apply(x: mx.array) -> mx.array:
        return linear(x)

    return apply


def _plain(weight: mx.array, bias: mx.array | None) -> Product:
    columns = weight.T
    mx.eval(columns)
    if bias is None:
        return lambda x: x @ columns
    if columns.dtype != mx.float32 and mlx_setup.computes_on_cpu():
        return lambda x: x @ columns + bias  # MLX's CPU back end fuses them in float32 only
    return lambda x: mx.addmm(bias, x, columns)


def _wide(weight: mx.array, bias: mx.array | None) -> Product:
    width, depth = weight.shape
    blocks = _blocks(width)
    by_block = weight.reshape(blocks, width // blocks, depth) if blocks > 1 else weight
    by_block = mx.contiguous(by_block.swapaxes(-1, -2)).astype(mx.float32)
    bias = None if bias is None else bias.astype(mx.float32)
    mx.eval(by_block, bias)

    def apply(x: mx.array) -> mx.array:
        y = x.astype(mx.float32) @ by_block
        if blocks > 1:
            y = y.reshape(1, width)
        return (y if bias is None else y + bias).astype(x.dtype)

    return apply


def _blocks(width: int) -> int:
    """Into how many blocks of one size a row of ``width`` sums is cut."""
    least = -(-width // BLOCK_COLUMNS_MAX)
    return next((n for n in range(least, 2 * least) if width % n == 0), 1)
