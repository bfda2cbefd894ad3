"""Qualities: how each quantises, and quantising bf16 weights while they load.

Streams: a weight is read, quantised, evaluated and let go before the next, so that the peak is
the quantised model and one layer, never the whole of bf16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten


@dataclass(frozen=True, slots=True)
class Grid:
    """Bits a weight and weights a group (one scale and one bias each)."""

    bits: int
    group_size: int


GRIDS: Final = {"q8": Grid(8, 64), "q4": Grid(4, 32)}
"""As Kyutai's pre-quantised checkpoints and moshi_mlx have them."""


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


def quantise_weight(weight: Any, quality: str) -> dict[str, Any]:
    """``weight`` [rows, columns] as ``weight``, ``scales`` and ``biases``, evaluated."""
    grid = GRIDS[quality]
    packed, scales, biases = mx.quantize(weight, grid.group_size, grid.bits)
    mx.eval(packed, scales, biases)
    return {"weight": packed, "scales": scales, "biases": biases}


def suit_device(lm: Any, quality: str, *, on_cpu: bool) -> None:
    """Let a quantised ``lm`` compute in float32 on a CPU.

    MLX's CPU back end has no fast path for quantised weights times bf16: the 32,000 x 256 text
    head takes 62 ms in bf16 and 8 ms in float32 (two cores, MLX 0.26). Packed weights stay as
    they are; scales, biases and norms grow.
    """
    if quality in GRIDS and on_cpu:
        lm.set_dtype(mx.float32)
        mx.eval(lm.parameters())


def default_is_cpu() -> bool:
    """Whether MLX computes on the CPU here."""
    return bool(mx.default_device().type == mx.DeviceType.cpu)
