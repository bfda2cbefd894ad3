"""A conversation's random keys: MLX's own sequence, computed on the host. Imports nothing.

``mx.random`` splits one global key before each draw, three nodes of graph each time, on a state
that all share. Here a conversation has a sequence of its own, from the same seed the same keys, and
they go to the device together with a frame's tokens.

Threefry-2x32, 20 rounds: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Final

Key = tuple[int, int]
"""Two words of 32 bits."""

_WORD: Final = 0xFFFFFFFF
_PARITY: Final = 0x1BD11BDA
_ROTATIONS: Final = ((13, 15, 26, 6), (17, 29, 16, 24))


class KeySequence:
    """The keys that ``mx.random.seed(seed)`` hands to the draws after it, one after the other."""

    def __init__(self, seed: int) -> None:
        """``seed``: 64 bits."""
        self._key: Key = (seed >> 32 & _WORD, seed & _WORD)

    def next(self) -> Key:
        """The next draw's key."""
        first, first_drawn = threefry(self._key, 0, 2)
        second, second_drawn = threefry(self._key, 1, 3)
        self._key = (first, second)
        return first_drawn, second_drawn


def threefry(key: Key, first: int, second: int) -> Key:
    """The block cipher's answer to a counter of two words."""
    schedule = (*key, key[0] ^ key[1] ^ _PARITY)
    first = first + schedule[0] & _WORD
    second = second + schedule[1] & _WORD
    for block in range(5):
        for turn in _ROTATIONS[block % 2]:
            first = first + second & _WORD
            second = ((second << turn | second >> 32 - turn) & _WORD) ^ first
        first = first + schedule[(block + 1) % 3] & _WORD
        second = second + schedule[(block + 2) % 3] + block + 1 & _WORD
    return first, second
