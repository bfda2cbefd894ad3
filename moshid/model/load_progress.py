"""How far a load is, in bytes and layers. Pure.

A layer is what has a number of its own (``transformer.layers.7``, ``depformer.slices.2``,
``audio_embs.0``), or a part of the model that has none (``text_linear``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

_LAYER: Final = re.compile(r"(?:[^.]+\.)*?\d+(?=\.)|[^.]+")


@dataclass(frozen=True, slots=True)
class Advance:
    """Bytes are those of the file that is read. Stages: reading, quantising; warming has neither
    bytes nor layers."""

    stage: str
    bytes_done: int = 0
    bytes_total: int = 0
    layers_done: int = 0
    layers_total: int = 0

    @property
    def fraction(self) -> float:
        """Share of the bytes, 0 to 1."""
        return self.bytes_done / self.bytes_total if self.bytes_total else 0.0

    def as_event(self) -> dict[str, Any]:
        """The worker's ``progress`` event."""
        return {
            "stage": self.stage,
            "fraction": round(self.fraction, 3),
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "layers_done": self.layers_done,
            "layers_total": self.layers_total,
        }


Progress = Callable[[Advance], None]

TOLD_EVERY: Final = 0.02
"""Share of a stage between two events."""


def sparingly(tell: Progress) -> Progress:
    """``tell``, but each stage not more often than every ``TOLD_EVERY`` of it, and its end. A stage
    may come anew, from its beginning: a quantised copy that turns out damaged is read in part."""
    told: tuple[str, float] | None = None

    def sparing(advance: Advance) -> None:
        nonlocal told
        stage, share = told or ("", 0.0)
        on = advance.stage == stage and share <= advance.fraction < share + TOLD_EVERY
        if not on or advance.fraction >= 1.0:
            told = advance.stage, advance.fraction
            tell(advance)

    return sparing


class Tracker:
    """Counts what has come of a file's tensors, and tells."""

    def __init__(self, stage: str, names: Iterable[str], total_bytes: int, tell: Progress) -> None:
        self._stage = stage
        self._missing = Counter(layer_of(name) for name in names)
        self._layers_total = len(self._missing)
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._tell = tell

    def came(self, count_bytes: int) -> None:
        """So many more bytes are there."""
        self._done_bytes += count_bytes
        self._tell_on()

    def finished(self, name: str) -> None:
        """All of this tensor is there."""
        layer = layer_of(name)
        self._missing[layer] -= 1
        if not self._missing[layer]:
            del self._missing[layer]
            self._tell_on()

    def _tell_on(self) -> None:
        done = self._layers_total - len(self._missing)
        self._tell(
            Advance(self._stage, self._done_bytes, self._total_bytes, done, self._layers_total)
        )


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: ``transformer.layers.7`` of
    ``transformer.layers.7.gating.linear_in.weight``."""
    found = _LAYER.match(name)
    return found.group() if found else name
