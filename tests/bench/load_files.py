"""Large random checkpoints for ``bench_load``, made on the fly in the real format."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid.demo import tokenizer
from moshid.model import quantise, quantising, safetensors_header
from moshid.model.qualities import GRIDS
from moshid.model.safetensors_header import TensorFacts
from tests.fakes import small_models

_BLOCK_WEIGHTS: Final = 16 * 1024 * 1024


def numbers(layers: int) -> dict[str, Any]:
    """A ``config.json`` between the 1B and the 7B: 8 + 8 codebooks, dim 2048, ``layers`` layers."""
    return small_models.config(
        dim=2048,
        num_heads=16,
        num_layers=layers,
        n_q=16,
        dep_q=8,
        delays=[0] + ([0] + [1] * 7) * 2,
        card=2048,
        text_card=32000,
        depformer_dim=1024,
        depformer_num_heads=16,
        depformer_num_layers=6,
        depformer_dim_feedforward=4096,
    )


def size_bytes(layers: int) -> int:
    """What bf16 weights of ``numbers(layers)`` take. Nothing is computed."""
    return sum(t.size_bytes for t in _facts(numbers(layers)).values())


def write(folder: Path, gigabytes: float) -> Path:
    """A checkpoint of at least ``gigabytes`` of bf16 in ``folder``; its weights."""
    layers = next(n for n in range(1, 200) if size_bytes(n) >= gigabytes * 1e9)
    config = numbers(layers)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / config["tokenizer_name"]).write_bytes(tokenizer.build(config["text_card"]))
    path = folder / str(config["moshi_name"])
    facts = _facts(config)
    rng = np.random.default_rng(0)
    block = (rng.standard_normal(_BLOCK_WEIGHTS, np.float32) / 40).view(np.uint32) >> 16
    half = memoryview(block.astype(np.uint16).tobytes())
    with path.open("wb") as file:
        file.write(safetensors_header.pack(facts, {"format": "mlx"}))
        for number, t in enumerate(facts.values()):
            at, left = 4096 * number % len(half), t.size_bytes
            while left:
                piece = half[at : at + left]
                file.write(piece)
                left -= len(piece)
                at = 0
        file.flush()
        os.fsync(file.fileno())
    return path


def write_quantised(path: Path, quality: str) -> Path:
    """Beside bf16 weights, what Kyutai's pre-quantised repositories would hold of them."""
    header = safetensors_header.read(path)
    config = json.loads(path.with_name("config.json").read_bytes())
    at_load = quantise.quantised_bases(quantise.expected_shapes(_empty(config, quality)))
    into = path.with_name(f"model.{quality}.safetensors")
    made = quantising.facts_of(header, at_load, GRIDS[quality])
    with into.open("wb") as file:
        file.write(safetensors_header.pack(made, {"format": "mlx"}))

        def put(_name: str, view: memoryview) -> None:
            file.write(view)

        quantising.run(path, header, at_load, GRIDS[quality], lambda _advance: None, put)
        file.flush()
        os.fsync(file.fileno())
    return into


def _facts(config: dict[str, Any]) -> dict[str, TensorFacts]:
    shapes = {n: tuple(w.shape) for n, w in tree_flatten(_empty(config, "bf16").parameters())}
    return {n: TensorFacts("BF16", s, 2 * int(np.prod(s))) for n, s in sorted(shapes.items())}


def _empty(config: dict[str, Any], quality: str) -> Any:
    lm = models.Lm(models.LmConfig.from_config_dict(config))
    lm.set_dtype(mx.bfloat16)
    quantise.quantise_modules(lm, quality)
    return lm
