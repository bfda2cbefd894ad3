"""The whole-file hash beside the fetching of one partial file. Owns its turns in the hash threads,
and when what it took from memory is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from moshid.downloads.buffers import HELD_BYTES
from moshid.downloads.digests import whole_hasher
from moshid.downloads.engine import Engine
from moshid.downloads.front import Front
from moshid.downloads.keeper import Keeper
from moshid.downloads.plan import Chunk
from moshid.downloads.states import FileState
from moshid.downloads.trust import Trust

WAYS_MAX: Final = 1.5
"""Chunks under way may be so many times what memory holds of them."""


class WholeHash:
    """The hash of one round of fetching; belongs to one event loop."""

    def __init__(self, engine: Engine, trust: Trust, connections: int) -> None:
        """``connections`` fetch at first, each another chunk."""
        self._engine = engine
        self._trust = trust
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._reach_bytes = reach_bytes(trust.chunks, connections)
        self.front = self._new_front()

    def chunk_done(self, chunk: Chunk) -> None:
        """A chunk is durable."""
        self._trust.count(chunk)
        self.front.chunk_done()

    async def run(self, keeper: Keeper, show: Callable[[FileState], None]) -> str:
        """The whole's hexdigest, once all is hashed and durable.

        Raises:
            MoshidError: the disk cannot be read.
        """
        trust, front = self._trust, self.front
        await self._follow(front, show)
        for chunk in trust.chunks:
            await keeper.done(chunk)
        if trust.chunks:
            show(FileState.VERIFYING)
        await self._engine.on_hash(front.forget_read, trust.partial.fd)
        digest = front.hexdigest()
        whole = await self._engine.on_hash(trust.partial.is_all_there)
        if front.is_stale or (front.of_memory and (digest != trust.etag or not whole)):
            front = self._new_front()  # the disk has the last word
            await self._follow(front, show)
            digest = front.hexdigest()
        return digest

    def close(self) -> None:
        """Hold nothing in memory any more."""
        self.front.close()

    async def _follow(self, front: Front, show: Callable[[FileState], None]) -> None:
        while not front.complete:
            more = await self._engine.on_hash(front.advance, self._trust.partial.fd)
            if self._trust.complete:
                show(FileState.VERIFYING)
            if not more and not front.complete:
                await self._ready.wait()
                self._ready.clear()

    def _new_front(self) -> Front:
        trust = self._trust
        hasher = whole_hasher(trust.etag, trust.partial.size)
        return Front(
            trust.chunks, hasher, self._engine.buffers, self._wake, reach_bytes=self._reach_bytes
        )

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._ready.set)


def reach_bytes(chunks: Sequence[Chunk], connections: int) -> int:
    """How far ahead of the hash it is worth holding what lands: where the chunks under way are
    many or large, most lies further away, and whoever waited for the hash would only be held up."""
    under_way = connections * chunks[0].size if chunks else 0
    return HELD_BYTES if under_way <= WAYS_MAX * HELD_BYTES else 0
