"""A Mimi of any size in MLX, described by a JSON of MimiConfig's numbers. Owns that codec.

MLX 0.26 is not thread-safe: whoever makes one of these uses it on the same thread for ever.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
from moshi_mlx.models.mimi import Mimi, MimiConfig
from moshi_mlx.modules import SeanetConfig, TransformerConfig
from moshi_mlx.modules.conv import ConvTranspose1d
from moshi_mlx.modules.quantization import EuclideanCodebook

from moshid import mlx_setup
from moshid.audio.codec import Tokens, as_pcm, first_line
from moshid.audio.ring import Samples
from moshid.audio.seanet import speed_up
from moshid.errors import BadCheckpoint

REBASE_POSITIONS: Final = 1 << 16
"""44 minutes: rotary angles, position times frequency in float32, are off by 0.004 then."""


class MlxMimi:
    """Mimi in MLX with rotating caches, so that an endless talk needs no more memory."""

    tail_frames = 1

    def __init__(self, weights: str, config: str, codebooks: int) -> None:
        """Raises BadCheckpoint when a file is missing or the two do not fit each other."""
        mlx_setup.prepare()
        numbers = _read_config(config)
        held = numbers["mimi"].get("quantizer_nq")
        if held != codebooks:
            raise BadCheckpoint(f"{config} has {held} codebooks, the model wants {codebooks}")
        try:
            self._mimi = Mimi(_mimi_config(numbers))
            self._mimi.load_pytorch_weights(weights, strict=True)
        except (ValueError, RuntimeError, TypeError, KeyError, OSError) as e:
            raise BadCheckpoint(f"the codec in {weights} cannot be read: {first_line(e)}") from e
        _use_float32(self._mimi)
        _use_rotating_caches(self._mimi)
        if mlx_setup.computes_on_cpu():
            speed_up(self._mimi)
        self.codebooks = codebooks
        self._begun: Any = None
        self.reset()

    def begin(self, pcm: Samples) -> None:
        """The convolutions over float32 [960], a frame's first half. Nothing else goes by halves:
        moshi_mlx's attention lets both steps of a frame see each other."""
        self._begun = self._mimi.encoder.step(mx.array(pcm)[None, None])
        mx.eval(self._begun)

    def encode(self, pcm: Samples) -> Tokens:
        """float32 [1920], or the [960] after those begun with → one token a codebook."""
        mimi = self._mimi
        steps = mimi.encoder.step(mx.array(pcm)[None, None])
        if self._begun is not None:
            steps = mx.concatenate([self._begun, steps], axis=-1)
            self._begun = None
        steps = mimi.encoder_transformer(steps, cache=mimi.encoder_cache)[0]
        codes = np.asarray(mimi.quantizer.encode(mimi.downsample.step(steps)))
        _count_afresh(self._mimi.encoder_transformer, self._mimi.encoder_cache)
        return tuple(codes[0, :, 0].tolist())

    def decode(self, tokens: Tokens) -> Samples:
        """One token a codebook → float32 [1920]."""
        codes = mx.array(tokens, dtype=mx.uint32)[None, :, None]
        pcm = as_pcm(self._mimi.decode_step(codes))
        _count_afresh(self._mimi.decoder_transformer, self._mimi.decoder_cache)
        return pcm

    def reset(self) -> None:
        """Forget the past of both directions."""
        self._begun = None
        self._mimi.reset_all()

    def hurry(self) -> None:
        """It runs in the worker's own process."""

    def close(self) -> None:
        """Nothing to end."""


def _read_config(path: str) -> dict[str, Any]:
    try:
        numbers = json.loads(Path(path).read_text(encoding="utf-8"))
        if not {"mimi", "seanet", "transformer"} <= numbers.keys():
            raise ValueError("it lacks mimi, seanet or transformer")
    except (OSError, ValueError, RecursionError, AttributeError) as e:
        raise BadCheckpoint(f"{path} is no codec configuration: {e}") from e
    return dict(numbers)


def _mimi_config(numbers: dict[str, Any]) -> Any:
    return MimiConfig(
        seanet=SeanetConfig(**numbers["seanet"]),
        transformer=TransformerConfig(**numbers["transformer"]),
        **numbers["mimi"],
    )


def _use_float32(mimi: Any) -> None:
    """The same speed as float16 on a CPU, and exact sums; layers cache what set_dtype changes."""
    mimi.set_dtype(mx.float32)
    for _name, module in mimi.named_modules():
        if isinstance(module, EuclideanCodebook | ConvTranspose1d):
            module.update_in_place()


def _use_rotating_caches(mimi: Any) -> None:
    """Twice the attention's context is enough for the same codes (measured over 1,000 frames)."""
    transformer = mimi.cfg.transformer
    max_size = 2 ** math.ceil(math.log2(2 * transformer.context))
    for name in ("encoder", "decoder"):
        cache = getattr(mimi, f"{name}_transformer").make_rot_cache()
        for layer in cache:
            layer.self_attn.max_size = max_size
        setattr(mimi, f"{name}_cache", cache)


def _count_afresh(transformer: Any, caches: list[Any], rebase: int = REBASE_POSITIONS) -> None:
    """Count positions from later on, if it is time to: only differences matter to attention. Keys
    are turned back by as much as the counting; a ring that is full keeps what else it knows."""
    for layer, cache in zip(transformer.transformer.layers, caches, strict=True):
        ring, rope = cache.self_attn, layer.self_attn.rope
        if rope is not None and ring.offset >= rebase + ring.max_size:
            shape = ring.keys.shape
            rows = ring.keys.reshape(-1, 1, 1, shape[-1])
            ring.keys = rope(rows, offset=-rebase).reshape(shape)
            ring.offset -= rebase
