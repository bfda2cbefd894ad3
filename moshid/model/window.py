"""The attended window: keys and values of the last positions, exact for ever. Owns nothing else.

Upstream keeps a ring of 4,096 positions and slices the last ``context`` from it as if it were in
order of time, which it is not once it has turned. Here the ring is as long as the window, so all of
it is attended to, in whatever order: attention knows positions by the angles of the keys.

Those angles are float32, a position times a frequency, and blur as positions grow, after a day by
more than bf16 does. Only differences count, so every ``REBASE`` positions all keys are turned back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import mlx.core as mx

FIRST: Final = 32
"""Positions of a ring at first: a step on scratch windows should cost little memory. No layer grows
more than this ahead of need."""

GROWTH: Final = 256
"""Positions that are added when the ring is full and shorter than the window. A ring that grows is
copied, at the end 44 MB a layer of the 7B and 1.4 GB in all: so layers grow one after the other."""

REBASE: Final = 1 << 16
"""Positions (87 minutes): angles are off by less than 0.01 then."""

TurnBack = Callable[[mx.array, int], mx.array]
"""Keys [1, heads, positions, head_dim] as they would be ``n`` positions earlier."""


class Windows:
    """All layers' windows, and the position that comes next."""

    def __init__(self, turns: Sequence[TurnBack], size: int) -> None:
        """``turns``: of each layer, first to last. ``size``: positions attended to."""
        self.position = 0
        self._size = size
        self._turns = turns
        self._layers = [Window(size, layer % FIRST) for layer in range(len(turns))]

    def __iter__(self) -> Iterator[Window]:
        return iter(self._layers)

    def rebase(self) -> None:
        """Count positions from later on, if it is time to. The places in the rings stay."""
        turns = max(1, REBASE // self._size)
        if self.position >= (turns + 1) * self._size:
            back = turns * self._size
            self.position -= back
            for window, turn in zip(self._layers, self._turns, strict=True):
                window.turn(turn, back)


class Window:
    """One layer's ring of ``size`` positions, the current one among them."""

    def __init__(self, size: int, ahead: int = 0) -> None:
        """``ahead``: it grows so many positions before it has to, fewer than ``FIRST``."""
        self._size = size
        self._ahead = ahead
        self._ring: list[mx.array] = []
        """Keys and values, [1, heads, positions, head_dim]; fewer than ``size`` at first."""

    def attend(self, position: int, heads: Sequence[mx.array], scale: float) -> mx.array:
        """Take a position's key and value in, and attend to the window.

        ``heads``: query, key and value, each [1, heads, 1, head_dim], as is what is returned.
        """
        query, *entry = heads
        at = position % self._size
        held = self._ring[0].shape[2] if self._ring else 0
        if held < self._size and position + self._ahead >= held:
            self._grow(entry, held)
        for ring, new in zip(self._ring, entry, strict=True):
            ring[..., at : at + 1, :] = new
        keys, values = self._ring
        if position + 1 < keys.shape[2]:
            keys, values = keys[..., : position + 1, :], values[..., : position + 1, :]
        return mx.fast.scaled_dot_product_attention(query, keys, values, scale=scale)

    def turn(self, turn: TurnBack, back: int) -> None:
        """Let the keys be those of ``back`` positions earlier."""
        self._ring[0] = turn(self._ring[0], back)

    def _grow(self, like: Sequence[mx.array], held: int) -> None:
        more = min(GROWTH if held else FIRST, self._size - held)
        rooms = [mx.zeros((1, a.shape[1], more, a.shape[3]), a.dtype) for a in like]
        if self._ring:
            rooms = [mx.concatenate(pair, axis=2) for pair in zip(self._ring, rooms, strict=True)]
        self._ring = rooms
