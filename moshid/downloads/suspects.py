"""Which chunks to fetch again when the whole is wrong and the disk agrees with the ledger. Pure.

Rescued chunks first, nobody's word stands for them; then those whose arrival was odd; then the
rest. In growing batches: after each, the whole is looked at again if anything came out otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from moshid.downloads.plan import Chunk

RESCUED: Final = 1_000_000
"""The suspicion of bytes that no server sent; one more where a source ended."""

BATCH_MIN: Final = 4
BATCH_SHARE: Final = 8
"""What is fetched beyond the first wrong chunk is no more than this part of what came before it."""


def next_suspects(chunks: Sequence[Chunk], tried: set[int]) -> list[Chunk]:
    """The next chunks to fetch again, the most suspicious first; none when all were tried. A batch
    is an eighth of all before it, and does not reach from one kind of suspects into the next."""
    fresh = sorted((c for c in chunks if c.index not in tried), key=_order)
    alike = [c for c in fresh if _kind(c) == _kind(fresh[0])]
    return alike[: max(BATCH_MIN, len(tried) // BATCH_SHARE)]


def _order(chunk: Chunk) -> tuple[int, int]:
    return -chunk.suspicion, chunk.index


def _kind(chunk: Chunk) -> int:
    return 2 if chunk.suspicion >= RESCUED else int(chunk.suspicion > 0)
