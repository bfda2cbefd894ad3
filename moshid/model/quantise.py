"""Quantised modules: how a model is made ready for a quality, and for the device it runs on.

No weight is computed here; ``quantising`` does that, while it reads.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moshid.model.qualities import GRIDS as GRIDS


def quantise_modules(lm: Any, quality: str) -> None:
    """Give ``lm`` quantised modules, lazily: no weight is computed yet. bf16 stays as it is."""
    if grid := GRIDS.get(quality):
        nn.quantize(lm, bits=grid.bits, group_size=grid.group_size)


def expected_shapes(lm: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by name."""
    return {name: tuple(w.shape) for name, w in tree_flatten(lm.parameters())}


def quantised_bases(shapes: dict[str, tuple[int, ...]]) -> set[str]:
    """Module paths that hold a quantised weight: those with a ``.scales`` beside it."""
    return {n.removesuffix(".scales") for n in shapes if n.endswith(".scales")}


def suit_device(lm: Any, quality: str, *, on_cpu: bool) -> None:
    """Let a quantised ``lm`` compute in float32 on a CPU.

    MLX's CPU back end has no fast path for quantised weights times bf16: the 32,000 x 256 text
    head takes 62 ms in bf16 and 8 ms in float32 (two cores, MLX 0.26). Packed weights stay as
    they are; scales, biases and norms grow, one after the other.
    """
    if quality not in GRIDS or not on_cpu:
        return
    waiting = tree_flatten(lm.parameters())
    while waiting:
        name, array = waiting.pop()
        if mx.issubdtype(array.dtype, mx.floating):
            array = array.astype(mx.float32)
            mx.eval(array)
            lm.load_weights([(name, array)], strict=False)
