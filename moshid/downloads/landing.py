"""Stretches of a file on their way to the disk: where the next byte belongs, what is hashed.

Owns position, digest and the division of a chunk between two connections; never a connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from moshid.downloads.digests import Hasher, chunk_hasher, hash_range
from moshid.downloads.disk import Partial
from moshid.downloads.keeper import Mark
from moshid.downloads.plan import Chunk

MIB: Final = 1 << 20

HOP_BYTES: Final = 2 * MIB
"""So much lands at most before the event loop hears of it; a tail begins no nearer than that."""


@dataclass(slots=True)
class Landing:
    """The next byte belongs ``at``, the last one before ``stop``: positions in the file."""

    at: int
    stop: int
    _claimed: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def left_bytes(self) -> int:
        """What is still to come."""
        return self.stop - self.at

    def claim(self, most_bytes: int) -> int:
        """How much may land next, up to ``most_bytes``: that is nobody else's from now on."""
        with self._lock:
            count = min(most_bytes, self.left_bytes)
            self._claimed = self.at + count
            return count

    def mark(self) -> Mark | None:
        """How far its chunk is; None: it is not this landing's."""
        return None

    def land(self, partial: Partial, pieces: Sequence[memoryview]) -> None:
        """Write pieces at ``at``. In a thread; counts only what was written."""
        self._landed(partial.write(self.at, pieces), pieces)

    def land_through(self, partial: Partial, content: memoryview) -> None:
        """The same past the page cache: see ``Partial.write_through``."""
        self._landed(partial.write_through(self.at, content), [content])

    def clip(self, pieces: Sequence[bytes]) -> list[memoryview]:
        """As much of the pieces as is still to come."""
        views, room = [], self.left_bytes
        for piece in pieces:
            views.append(memoryview(piece)[:room])
            room -= len(views[-1])
        return [v for v in views if v]

    def _landed(self, count_bytes: int, _pieces: Sequence[memoryview]) -> None:
        self.at += count_bytes


@dataclass(slots=True)
class Tail(Landing):
    """The end of a chunk that another connection brings. ``settled``: it is there, or nobody
    brings it any more."""

    settled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class ChunkLanding(Landing):
    """A chunk from its first missing byte on; ``hasher`` has taken all before ``at``."""

    chunk: Chunk
    hasher: Hasher
    tail: Tail | None = None

    @classmethod
    def begin(cls, chunk: Chunk) -> ChunkLanding:
        """Nothing of the chunk is there."""
        hasher = chunk_hasher(chunk.digest_kind)
        return cls(chunk.range.start, chunk.range.stop, chunk, hasher)

    @property
    def have_bytes(self) -> int:
        """How much of the chunk's beginning is written and hashed."""
        return self.at - self.chunk.offset

    @property
    def complete(self) -> bool:
        """All of the chunk is written and hashed."""
        return self.have_bytes == self.chunk.size

    def mark(self) -> Mark:
        """How far the chunk is."""
        return Mark(self.chunk, self.have_bytes, self.hasher.copy().digest())

    def divide(self, most_bytes: int) -> Tail | None:
        """Give the end away, up to so much, for another connection to bring; None: it is not worth
        it. A kill costs a tail whole: it counts only when its chunk has come up to it."""
        with self._lock:
            left_bytes = self.stop - max(self.at, self._claimed)
            tail_bytes = min(left_bytes // 2, most_bytes)
            if self.tail is not None or left_bytes - tail_bytes <= HOP_BYTES:
                return None
            self.tail = Tail(self.stop - tail_bytes, self.stop)
            self.stop = self.tail.at
            return self.tail

    def join(self, fd: int) -> None:
        """Take what has come of the tail for this landing's own, once it is settled and all before
        it is there. In a thread: reads it again, to hash it."""
        tail, self.tail = self.tail, None
        if tail is not None:
            hash_range(fd, self.at, tail.at, self.hasher)
            self.at = tail.at
        self.stop = self.chunk.range.stop

    def _landed(self, count_bytes: int, pieces: Sequence[memoryview]) -> None:
        """What is written is hashed, and counts only then."""
        for piece in pieces:
            self.hasher.update(piece)
        self.at += count_bytes
