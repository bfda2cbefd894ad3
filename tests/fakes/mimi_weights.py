"""Full-size Mimi weights, random but in the released file's layout, for rustymimi and MLX alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from moshi_mlx.models.mimi import Mimi, mimi_202407

Weights = dict[str, "mx.array"]


def write_mimi(path: Path, *, codebooks: int = 8, seed: int = 0, layer_scale: float = 0.01) -> Path:
    """About 300 MB in 3 s. Names as in tokenizer-e351c8d8-checkpoint125.safetensors.

    ``layer_scale``: how much each layer of the transformers adds; 0.01 before training.
    """
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, value in tree_flatten(Mimi(mimi_202407(codebooks)).parameters()):
        released, shape = _released_name(name), _torch_shape(name, value.shape)
        weights[released] = mx.array(_values(released, shape, rng))
        if "layer_scale" in released:
            weights[released] = mx.full(shape, layer_scale)
    mx.save_safetensors(str(path), weights)
    return path


def _released_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] in ("encoder", "decoder"):
        name = ".".join([parts[0], "model", *_layer(parts)])
    for ours, theirs in (
        (".self_attn.in_proj.weight", ".self_attn.in_proj_weight"),
        (".gating.linear", ".linear"),
        (".codebook.", "._codebook."),
        ("codebook.initialized", "codebook._initialized"),
    ):
        name = name.replace(ours, theirs)
    return name


def _layer(parts: list[str]) -> list[str]:
    """moshi_mlx's nested names as the flat numbering of the PyTorch model."""
    if parts[1] == "init_conv1d":
        return ["0", *parts[2:]]
    if parts[1] == "final_conv1d":
        return ["14", *parts[2:]]
    base = 3 * int(parts[2])
    if parts[3] == "upsample":
        return [str(base + 2), *parts[4:]]
    if parts[3] == "downsample":
        return [str(base + 3), *parts[4:]]
    first = 3 if parts[0] == "decoder" else 1
    return [str(base + first), "block", {"0": "1", "1": "3"}[parts[6]], *parts[7:]]


def _torch_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name.endswith(".convtr.weight"):
        return (shape[2], shape[0], shape[1])
    return (shape[0], shape[2], shape[1]) if len(shape) == 3 else shape


def _values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    if name.endswith(("cluster_usage", "_initialized")) or ("norm" in name and "weight" in name):
        return np.ones(shape, np.float32)
    if name.endswith("bias"):
        return np.zeros(shape, np.float32)
    scale = 1.0 if "embedding_sum" in name else float(np.prod(shape[1:])) ** -0.5
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
