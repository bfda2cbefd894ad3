"""The whole-file hash, right behind the contiguous front of what has landed.

Owns how far it is, and the landed pieces it is about to reach, which wait for it in memory: those
that lie further away, or came by a slow line, it reads from the disk once their chunk is durable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from moshid.downloads import pages
from moshid.downloads.buffers import HELD_BYTES, Buffers
from moshid.downloads.digests import Hasher, hash_range
from moshid.downloads.plan import Chunk

LINGER_S: Final = 0.02
"""Who hashes waits so long for the next piece before it leaves its thread to others."""

SLICE_BYTES: Final = 64 << 20
"""And leaves it after so many bytes in any case."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that landed. ``buffer``: what they are in, to be given back; None: they are nobody's
    else."""

    content: memoryview
    buffer: memoryview | None


class Front:
    """The hash over ``chunks``, in their order, by ``hasher``. ``ready`` is called, in any thread,
    when there is something to hash again. Thread-safe; one thread at a time hashes."""

    def __init__(
        self,
        chunks: Sequence[Chunk],
        hasher: Hasher,
        buffers: Buffers,
        ready: Callable[[], None],
        *,
        reach_bytes: int = HELD_BYTES,
        linger_s: float = LINGER_S,
        slice_bytes: int = SLICE_BYTES,
    ) -> None:
        """``reach_bytes``: what lands so far ahead is held, if there are buffers; 0: nothing is."""
        self.at = 0
        """So far, from the beginning, all is hashed."""
        self.of_memory = False
        """Something was hashed as it landed, not as it was read."""
        self.is_stale = False
        """Something was written again after it was hashed: it has to be read."""
        self._chunks = chunks
        self._hasher = hasher
        self._buffers = buffers
        self._ready = ready
        self._reach_bytes = reach_bytes
        self._linger_s = linger_s
        self._slice_bytes = slice_bytes
        self._held: dict[int, Piece] = {}
        self._changed = threading.Condition()
        self._asleep = True
        self._kept = 0
        self._busy = False

    @property
    def complete(self) -> bool:
        """All is hashed."""
        return not self._chunks or self.at == self._chunks[-1].range.stop

    def hexdigest(self) -> str:
        """The digest of what is hashed."""
        return self._hasher.hexdigest()

    def buffer_for(self, at: int) -> memoryview | None:
        """A buffer for what lands there, if the hash will be there soon: to be held, or dropped.
        Waits a little for a hash that is at work and only has to catch up. Blocking, briefly."""
        if not self._reach_bytes:
            return None
        with self._changed:
            self._changed.wait_for(lambda: self._is_near(at) or not self._busy, self._linger_s)
            near, wait_s = self._is_near(at), self._linger_s if self._busy and self._held else 0.0
        return self._buffers.take(wait_s) if near else None

    def drop(self, buffer: memoryview) -> None:
        """Nothing is to be held in it after all."""
        self._buffers.give(buffer)

    def hold(self, at: int, piece: Piece) -> None:
        """A piece was written there, and is in memory until it is hashed."""
        with self._changed:
            self._check(at, at + len(piece.content))
            if at in self._held or self.is_stale:
                self._let_go(piece)
                return
            self._held[at] = piece
            self._wake()

    def wrote(self, start: int, stop: int) -> None:
        """Something was written there, and is on its way to the disk."""
        with self._changed:
            self._check(start, stop)

    def landed(self, start: int, stop: int, pieces: Sequence[memoryview]) -> None:
        """Small pieces were written there, one after the other, as far as ``stop``. The file's
        first ones are held as they are: else the hash would wait for the end of the first chunk,
        and all that lies in memory for the hash."""
        if start or not self._reach_bytes or stop != sum(map(len, pieces)):
            self.wrote(start, stop)
            return
        for content in pieces:
            self.hold(start, Piece(content, None))
            start += len(content)

    def chunk_done(self) -> None:
        """One more chunk is durable, and can be read."""
        with self._changed:
            self._wake()

    def advance(self, fd: int) -> bool:
        """Hash what is there, in order; whether there is more of it. Blocking, for a while."""
        start = self.at
        while self.at - start < self._slice_bytes and self._step(fd):
            pass
        self.forget_read(fd)
        with self._changed:
            more = not self.complete and self._can_go_on()
            self._asleep, self._busy = not more, more
            self._changed.notify_all()
        return more

    def forget_read(self, fd: int) -> None:
        """Let the page cache forget chunks that are durable and hashed. Blocking, briefly."""
        while self._kept < len(self._chunks):
            chunk = self._chunks[self._kept]
            if not chunk.done or self.at < chunk.range.stop:
                return
            pages.forget(fd, chunk.range.start, chunk.range.stop)
            self._kept += 1

    def close(self) -> None:
        """Hold nothing any more."""
        with self._changed:
            for piece in self._held.values():
                self._let_go(piece)
            self._held.clear()
        self._buffers.trim()

    def _step(self, fd: int) -> bool:
        """Hash the next piece or what can be read; False: nothing has come for a while."""
        with self._changed:
            self._busy = not self.complete and self._can_go_on()
            if not self._busy:
                self._changed.notify_all()
                if self.complete or not self._changed.wait_for(self._can_go_on, self._linger_s):
                    return False
                self._busy = True
            start, piece = self.at, self._held.pop(self.at, None)
            stop = start + len(piece.content) if piece is not None else self._readable_to()
            self.at = stop  # what is written there from now on is written again
            self._changed.notify_all()
        if piece is None:
            hash_range(fd, start, stop, self._hasher)
        else:
            self.of_memory = True
            self._hasher.update(piece.content)
            self._let_go(piece)
        return True

    def _let_go(self, piece: Piece) -> None:
        if piece.buffer is not None:
            self._buffers.give(piece.buffer)

    def _is_near(self, at: int) -> bool:
        return at - self.at < self._reach_bytes

    def _can_go_on(self) -> bool:
        return self.at in self._held or self._chunk.done

    @property
    def _chunk(self) -> Chunk:
        return self._chunks[self.at // self._chunks[0].size]

    def _readable_to(self) -> int:
        """Up to where the disk is to be read: the chunk's end, or what is held before that."""
        stop = min(self._chunk.range.stop, self.at + SLICE_BYTES)
        return min((at for at in self._held if self.at < at < stop), default=stop)

    def _check(self, start: int, stop: int) -> None:
        """Nothing is written twice, unless a server that had begun to send ranges sends none."""
        overlaps = any(start < at + len(p.content) and at < stop for at, p in self._held.items())
        self.is_stale = self.is_stale or start < self.at or overlaps

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._asleep:
            self._asleep = False
            self._ready()
