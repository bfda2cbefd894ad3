"""Numbered piece files: where in the whole each belongs, by its number and the common size. Pure.

An older script left 50 MB pieces (``chunk_0000``, ``model.safetensors.part003``). Neither the size
nor the first number is told anywhere, so there may be several ways to put them together.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

USUAL_BYTES: Final = (50_000_000, 50 << 20)
"""Sizes of pieces to think of where too few are left to tell."""

FEW: Final = 3
WAYS_MAX: Final = 6
_NUMBER: Final = re.compile(r"\d{1,9}")


def ways(sizes: Mapping[str, int], total: int) -> list[dict[str, int]]:
    """How the files of these names and sizes may make up a whole of ``total`` bytes, the likeliest
    way first: name → offset. Missing numbers leave holes; the last piece, or one that was being
    written, may be shorter."""
    found: list[tuple[bool, dict[str, int]]] = []
    for group in _groups(sizes):
        for piece in _piece_sizes([sizes[n] for n in group.values()]):
            for first in (0,) if 0 in group else (1, 0):
                way = {name: (n - first) * piece for n, name in sorted(group.items())}
                ends = [at + sizes[name] for name, at in way.items()]
                if max(ends) <= total and max(sizes[n] for n in way) <= piece:
                    found.append((max(ends) != total, way))
    found.sort(key=lambda f: f[0])
    return [way for _, way in found[:WAYS_MAX]]


def _groups(sizes: Mapping[str, int]) -> Iterator[dict[int, str]]:
    """Names that differ in one number only: number → name, the largest group first; each name in
    one group."""
    groups: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for name in sizes:
        for match in _NUMBER.finditer(name):
            groups[name[: match.start()], name[match.end() :]][int(match.group())] = name
    used: set[str] = set()
    for group in sorted(groups.values(), key=len, reverse=True):
        if used.isdisjoint(group.values()):
            used.update(group.values())
            yield group


def _piece_sizes(sizes: list[int]) -> list[int]:
    """The size that most have (the largest of them), and what is usual where few are left."""
    counts = Counter(sizes)
    most = max(counts.values())
    likely = [max(s for s, count in counts.items() if count == most)]
    if len(sizes) < FEW:
        likely += [s for s in USUAL_BYTES if s not in likely]
    return likely
