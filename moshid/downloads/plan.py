"""Which bytes are to be fetched: a file's chunks, what is left of them, ranges. Pure.

A chunk is the unit of verification (it has a digest); the bytes at its start that are on disk for
good are its durable prefix, which grows by segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SHA256: Final = "sha256"
XXH3: Final = "xxh3"
"""Kinds of chunk digests: see digests.py."""

CHUNKS_MAX: Final = 16_384
"""A file has no more: each is a row in the ledger, and some memory."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, not including, ``stop``."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    @property
    def header(self) -> str:
        """The value of a Range header (its last byte is inclusive)."""
        return f"bytes={self.start}-{self.stop - 1}"

    def content_range(self, total: int) -> str:
        """The Content-Range that the right answer has."""
        return f"bytes {self.start}-{self.stop - 1}/{total}"


@dataclass(slots=True)
class Chunk:
    """One chunk. ``digest``, of ``digest_kind`` (see digests): of the whole chunk once ``done``, of
    the durable prefix before. ``suspicion``: failed attempts and odd answers, for the order of
    repair."""

    index: int
    offset: int
    size: int
    durable_bytes: int = 0
    digest: bytes | None = None
    done: bool = False
    suspicion: int = 0
    digest_kind: str = SHA256

    @property
    def range(self) -> ByteRange:
        """Where the chunk lies in its file."""
        return ByteRange(self.offset, self.offset + self.size)

    def range_after(self, have_bytes: int) -> ByteRange:
        """What is left of the chunk when its first ``have_bytes`` are there."""
        return ByteRange(self.offset + have_bytes, self.offset + self.size)

    def become(self, row: Chunk) -> None:
        """Be as the ledger has it now."""
        self.durable_bytes, self.digest, self.done = row.durable_bytes, row.digest, row.done
        self.suspicion = row.suspicion

    def forget(self) -> None:
        """Nothing of the chunk can be relied upon."""
        self.durable_bytes, self.digest, self.done = 0, None, False


def chunk_bytes_for(size: int, wanted_bytes: int) -> int:
    """The size of a file's chunks: as wanted, or so much more that they can all be counted."""
    return max(wanted_bytes, -(-size // CHUNKS_MAX))


def split(size: int, chunk_bytes: int, digest_kind: str = SHA256) -> list[Chunk]:
    """The chunks of a file of ``size`` bytes; none of an empty one. The last may be shorter."""
    if chunk_bytes <= 0 or size < 0:
        raise ValueError(f"no plan for {size} bytes in chunks of {chunk_bytes}")
    starts = range(0, size, chunk_bytes)
    return [
        Chunk(i, at, min(chunk_bytes, size - at), digest_kind=digest_kind)
        for i, at in enumerate(starts)
    ]


def left(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The chunks that are not done, in the file's order (the whole-file hash follows it)."""
    return [c for c in chunks if not c.done]


def bytes_done(chunks: Iterable[Chunk]) -> int:
    """Bytes on disk for good."""
    return sum(c.size if c.done else c.durable_bytes for c in chunks)
