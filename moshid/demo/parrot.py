"""The demo's language model: a parrot, written by hand. Owns its configuration and weights.

It runs under plain ``moshi_mlx`` (Lm and LmGen) and returns each of the user's tokens two step
calls later, under every sampler, in bf16, q8 and q4.

How: the transformers' output projections are zero, so their residual passes unchanged. The user's
codebook k has random unit embeddings in its own 31 dimensions (32 k to 32 k + 30); what the step
hands to the depformer is thus the sum of the eight embeddings it heard, and slice k answers with
the row of codebook k that fits best. Row 2048 (padding) is the row of the codec's code for
silence, so that the first frame returned is silent. Every text embedding adds one unit vector of
the spare dimensions, along which the text head's padding row stands; some syllables' rows point
along embeddings of codebook 0, so that the transcript babbles now and then.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from moshid.demo import tokenizer

Array = npt.NDArray[np.float32]

SEED: Final = 299792458
DELAY_FRAMES: Final = 2
"""A token given to step call s comes back from step call s + 2."""

SILENCE_CODES: Final = (1142, 1447, 1987, 472, 580, 1061, 1021, 1032)
"""What the demo codec makes of silence, by codebook."""

CODEBOOKS: Final = 8
CARD: Final = 2048
TEXT_CARD: Final = 32000
DIM: Final = 256
LAYERS: Final = 2
DEPFORMER_LAYERS: Final = 1
DEPFORMER_FF: Final = 384
SYLLABLES: Final = 256

_SUBSPACE = 32
"""Dimensions a codebook: 31 for its embeddings and a spare one. 32, so that q4's groups of 32
never mix two codebooks."""
_TEXT_DIM = 31
_AUDIO_SCALE = 32.0
_TEXT_SCALE = 8.0


def config() -> dict[str, Any]:
    """The language model's half of ``config.json``, as ``LmConfig.from_config_dict`` reads it."""
    return {
        "model_type": "moshi",
        "card": CARD,
        "n_q": 2 * CODEBOOKS,
        "dep_q": CODEBOOKS,
        "delays": [0] + ([0] + [1] * (CODEBOOKS - 1)) * 2,
        "text_card": TEXT_CARD,
        "existing_text_padding_id": tokenizer.PADDING_ID,
        "dim": DIM,
        "num_heads": 4,
        "num_layers": LAYERS,
        "hidden_scale": 4.125,
        "causal": True,
        "layer_scale": None,
        "context": 3000,
        "max_period": 10000,
        "positional_embedding": "rope",
        "cross_attention": False,
        "gating": "silu",
        "norm": "rms_norm_f32",
        "depformer_dim": DIM,
        "depformer_num_heads": 4,
        "depformer_num_layers": DEPFORMER_LAYERS,
        "depformer_dim_feedforward": DEPFORMER_FF,
        "depformer_multi_linear": True,
        "depformer_pos_emb": "none",
        "conditioners": {},
    }


def weights(seed: int = SEED) -> dict[str, Array]:
    """Every parameter of ``moshi_mlx.models.Lm`` by name, float32."""
    rng = np.random.default_rng(seed)
    embeddings = [_codebook(rng, k) for k in range(CODEBOOKS)]
    main_ff = 11 * DIM // 4
    named: dict[str, Array] = {"out_norm.weight": np.ones(DIM, np.float32)}
    named |= _text(embeddings[0])
    for k in range(CODEBOOKS):
        named[f"audio_embs.{k}.weight"] = np.zeros((CARD + 1, DIM), np.float32)
        padding = embeddings[k][SILENCE_CODES[k]]
        heard = np.concatenate([embeddings[k], padding[None]])
        named[f"audio_embs.{CODEBOOKS + k}.weight"] = heard
    for layer in range(LAYERS):
        named |= _identity_layer(rng, f"transformer.layers.{layer}", main_ff)
    for k in range(CODEBOOKS):
        name = f"depformer.slices.{k}"
        rows = TEXT_CARD + 1 if k == 0 else CARD + 1
        named[f"{name}.emb.weight"] = np.zeros((rows, DIM), np.float32)
        named[f"{name}.linear_in.weight"] = np.eye(DIM, dtype=np.float32)
        named[f"{name}.linear_out.weight"] = np.float32(_AUDIO_SCALE) * embeddings[k]
        for layer in range(DEPFORMER_LAYERS):
            inner = 2 * DEPFORMER_FF // 3
            named |= _identity_layer(rng, f"{name}.transformer.layers.{layer}", inner)
    return named


def syllable_tokens(seed: int = SEED) -> dict[int, int]:
    """Which codebook-0 token makes the parrot say which text token."""
    rng = np.random.default_rng(seed + 1)
    audible = [t for t in range(CARD) if t != SILENCE_CODES[0]]
    chosen = rng.choice(audible, SYLLABLES, replace=False)
    return {int(t): tokenizer.FIRST_SYLLABLE_ID + i for i, t in enumerate(chosen)}


def _codebook(rng: np.random.Generator, k: int) -> Array:
    """Random unit vectors of codebook k's subspace: float32 [CARD, DIM]."""
    vectors = rng.standard_normal((CARD, _SUBSPACE - 1)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.zeros((CARD, DIM), np.float32)
    rows[:, _SUBSPACE * k : _SUBSPACE * (k + 1) - 1] = vectors
    return rows


def _text(heard: Array) -> dict[str, Array]:
    """Text embeddings (one constant direction) and the text head. ``heard``: codebook 0's rows."""
    embedding = np.zeros((TEXT_CARD + 1, DIM), np.float32)
    embedding[:, _TEXT_DIM] = 1.0
    head = np.zeros((TEXT_CARD, DIM), np.float32)
    head[tokenizer.PADDING_ID, _TEXT_DIM] = _TEXT_SCALE
    for audio_token, text_token in syllable_tokens().items():
        head[text_token] = 3.0 * _TEXT_SCALE * heard[audio_token]
        head[text_token, _TEXT_DIM] = -1.7 * _TEXT_SCALE
    return {"text_emb.weight": embedding, "text_linear.weight": head}


def _identity_layer(rng: np.random.Generator, name: str, inner: int) -> dict[str, Array]:
    """A transformer layer that works (random attention and gate) and adds zero."""

    def random(*shape: int) -> Array:
        values: Array = rng.standard_normal(shape).astype(np.float32)
        return values / np.float32(np.sqrt(DIM))

    return {
        f"{name}.norm1.weight": np.ones(DIM, np.float32),
        f"{name}.norm2.weight": np.ones(DIM, np.float32),
        f"{name}.self_attn.in_proj.weight": random(3 * DIM, DIM),
        f"{name}.self_attn.out_proj.weight": np.zeros((DIM, DIM), np.float32),
        f"{name}.gating.linear_in.weight": random(2 * inner, DIM),
        f"{name}.gating.linear_out.weight": np.zeros((DIM, inner), np.float32),
    }
