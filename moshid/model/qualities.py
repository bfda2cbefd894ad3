"""The qualities, and how much room each takes. Pure, so that the daemon may use it, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUALITIES: Final = ("bf16", "q8", "q4")
"""Best first."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Bits a weight and weights a group (one scale and one bias each)."""

    bits: int
    group_size: int

    @property
    def share(self) -> float:
        """Of the room that bf16 takes: each group has 32 bits of scale and bias besides."""
        return (self.bits + 32 / self.group_size) / 16


GRIDS: Final = {"q8": Grid(8, 64), "q4": Grid(4, 32)}
"""As Kyutai's pre-quantised checkpoints and moshi_mlx have them."""


def size_as(quality: str, size_bytes: int, of: str = "bf16") -> int:
    """About how much the weights take as ``quality``, when they take ``size_bytes`` as ``of``."""
    return round(size_bytes * _share(quality) / _share(of))


def _share(quality: str) -> float:
    return GRIDS[quality].share if quality in GRIDS else 1.0
