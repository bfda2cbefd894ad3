"""What a model weighs: its weights, what of them a step reads, and its key-value cache. In bytes.

From these come the bandwidth that a step needs, and the limits that MLX is given on Metal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

WORKING_BYTES: Final = 512 * 1024**2
"""Beside weights and cache: activations, compiled kernels, the samplers' vocabularies."""

FREE_BUFFERS_BYTES_MAX: Final = 256 * 1024**2
"""A step needs the same few small buffers again and again; what MLX keeps beyond is waste."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """``step_bytes`` are the weights that each step reads: all but the embedding tables, of which
    it takes a row. ``kv_position_bytes`` is the cache of one frame, over all layers."""

    weights_bytes: int
    step_bytes: int
    kv_position_bytes: int
    context: int

    @property
    def kv_full_bytes(self) -> int:
        """The cache once the attended window is full."""
        return self.kv_position_bytes * self.context

    def read_bytes(self, positions: int) -> int:
        """What a step reads with ``positions`` frames in its cache."""
        return self.step_bytes + self.kv_position_bytes * min(positions, self.context)


@dataclass(frozen=True, slots=True)
class MetalLimits:
    """For ``mx.set_wired_limit`` and ``mx.set_cache_limit``."""

    wired_bytes: int
    cache_bytes: int


def of_model(sizes: dict[str, int], transformer: Any, item_bytes: int) -> Footprint:
    """Of parameters by name, in bytes; the main transformer's configuration; and the size of one
    number of its key-value cache."""
    embeddings = sum(n for name, n in sizes.items() if is_embedding(name))
    total = sum(sizes.values())
    heads = transformer.num_heads // transformer.kv_repeat
    position = 2 * transformer.num_layers * heads * transformer.head_dim * item_bytes
    return Footprint(total, total - embeddings, position, transformer.context)


def is_embedding(name: str) -> bool:
    """Whether a parameter belongs to a table of which a step takes one row."""
    path = name.split(".")[:-1]
    return path[-1:] in (["emb"], ["text_emb"]) or path[:1] == ["audio_embs"]


def metal_limits(footprint: Footprint, recommended_bytes: int) -> MetalLimits:
    """How much to wire, and how much of freed buffers to keep.

    Wired is what the model needs and no more than the system recommends: wiring the whole working
    set froze Macs of 16 GB.
    """
    needed = footprint.weights_bytes + footprint.kv_full_bytes + WORKING_BYTES
    return MetalLimits(
        wired_bytes=min(recommended_bytes, needed),
        cache_bytes=min(FREE_BUFFERS_BYTES_MAX, recommended_bytes // 16),
    )
