"""Small random Moshi models in the real format, made by seed, for tests of loading and stepping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from moshi_mlx import models

from moshid import mlx_setup
from moshid.demo import tokenizer
from moshid.model import quantise


def config(**changes: Any) -> dict[str, Any]:
    """A ``config.json`` of a model with 4 + 4 codebooks, dim 256, 2 layers, 300 text tokens."""
    base: dict[str, Any] = {
        "card": 64,
        "n_q": 8,
        "dep_q": 4,
        "delays": [0, 0, 1, 1, 1, 0, 1, 1, 1],
        "text_card": 300,
        "existing_text_padding_id": 3,
        "dim": 256,
        "num_heads": 4,
        "num_layers": 2,
        "causal": True,
        "layer_scale": None,
        "context": 3000,
        "max_period": 10000,
        "positional_embedding": "rope",
        "depformer_dim": 64,
        "depformer_num_heads": 2,
        "depformer_num_layers": 2,
        "depformer_dim_feedforward": 192,
        "depformer_pos_emb": "none",
        "moshi_name": "model.safetensors",
        "mimi_name": "codec.safetensors",
        "tokenizer_name": "tokenizer_spm_small.model",
    }
    return base | changes


def random_lm(
    numbers: dict[str, Any],
    seed: int = 0,
    *,
    layers: dict[str, Any] | None = None,
    quality: str = "bf16",
) -> Any:
    """An ``Lm`` with weights spread widely enough that its tokens vary.

    ``layers``: fields of both transformers' configuration that no ``config.json`` can set.
    """
    mx.random.seed(seed)
    cfg = models.LmConfig.from_config_dict(numbers)
    for field, value in (layers or {}).items():
        setattr(cfg.transformer, field, value)
        setattr(cfg.depformer.transformer, field, value)
    lm = models.Lm(cfg)
    lm.set_dtype(mx.bfloat16)
    spread = [
        (name, (0.3 * mx.random.normal(w.shape)).astype(mx.bfloat16) if w.ndim > 1 else w)
        for name, w in tree_flatten(lm.parameters())
    ]
    lm.load_weights(spread)
    quantise.quantise_modules(lm, quality)
    quantise.suit_device(lm, quality, on_cpu=mlx_setup.computes_on_cpu())
    mx.eval(lm.parameters())
    return lm


def write_checkpoint(folder: Path, numbers: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """Write config, weights and tokenizer (no codec) of a random model into ``folder``."""
    numbers = numbers or config()
    folder.mkdir(parents=True, exist_ok=True)
    lm = random_lm(numbers, seed)
    mx.save_safetensors(str(folder / numbers["moshi_name"]), dict(tree_flatten(lm.parameters())))
    (folder / "config.json").write_text(json.dumps(numbers))
    (folder / numbers["tokenizer_name"]).write_bytes(tokenizer.build(numbers["text_card"]))
    return folder
