"""The repetition penalty on text: which words were said of late, and what their logits suffer."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

import mlx.core as mx

NO_WORDS: Final[Collection[int]] = frozenset()


class Repetition:
    """The words among the last ``window`` text tokens, each with its ``penalty``."""

    def __init__(self, penalty: float, window: int, silent: Collection[int]) -> None:
        self._penalty = penalty
        self._silent = silent
        self._last: deque[int] = deque(maxlen=window)

    def push(self, text: int) -> None:
        """A text token was said."""
        self._last.append(text)

    def arrays(self) -> tuple[mx.array, mx.array]:
        """int32 and float32 [window]: the words, and what to divide them by. The length is always
        the same, so that nothing has to be compiled again; the rest repeats a word."""
        words = [token for token in self._last if token not in self._silent]
        size = self._last.maxlen or 1
        filler = (words[0], self._penalty) if words else (0, 1.0)
        missing = size - len(words)
        ids = words + [filler[0]] * missing
        factors = [self._penalty] * len(words) + [filler[1]] * missing
        return mx.array(ids, mx.int32), mx.array(factors, mx.float32)


def penalise(logits: mx.array, words: mx.array, factors: mx.array) -> mx.array:
    """``logits`` [1, vocabulary] with those of ``words`` made less likely."""
    at = words[None]
    values = mx.take_along_axis(logits, at, axis=-1)
    factors = factors.astype(logits.dtype)
    lower = mx.where(values > 0, values / factors, values * factors)
    return mx.put_along_axis(logits, at, lower, axis=-1)
