"""Which endpoint gave which chunk of a file, so that wrong bytes are known by their giver.

Owns the blame: a chunk that comes out otherwise from another endpoint, in a file whose whole was
wrong, was the first one's fault until the contrary is known.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from moshid.downloads.alternates import Alternates

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Misses:
    """Attempts in a row that brought nothing, while the file had ``have_bytes``."""

    have_bytes: int = -1
    count: int = 0

    def more(self, have_bytes: int) -> Misses:
        """One more; what other connections brought meanwhile begins the row anew."""
        return Misses(have_bytes, self.count + 1 if have_bytes == self.have_bytes else 1)


class Givers:
    """The givers of one file's chunks, of those that came in this run."""

    def __init__(self, hub: Alternates, path: str) -> None:
        self._hub = hub
        self._path = path
        self._now: defaultdict[int, set[str]] = defaultdict(set)
        self._before: dict[int, set[str]] = {}
        self._compared: set[int] = set()
        self.shunned: frozenset[str] = frozenset()
        """Whose bytes are being compared: others are asked for the same."""

    @property
    def names(self) -> list[str]:
        """All that gave any chunk."""
        return sorted(set[str]().union(*self._now.values(), *self._before.values()))

    def took(self, origin: str, chunk: int) -> None:
        """Bytes of a chunk came from there."""
        self._now[chunk].add(origin)

    def compare(self, chunks: Iterable[int]) -> None:
        """These chunks are about to be fetched again, from other endpoints if there are any."""
        chunks = set(chunks)
        if not chunks.isdisjoint(self._compared):  # all were, in vain: the blame may be wrong
            self._hub.forgive()
            self._compared.clear()
        self._compared |= chunks
        self._before = {c: self._now.pop(c, set()) for c in chunks}
        self.shunned = frozenset().union(*self._before.values())

    def differed(self, chunks: Iterable[int]) -> str | None:
        """These came out otherwise than before. Says who is to blame, if it is known."""
        said = []
        for chunk in chunks:
            before, now = self._before.get(chunk, set()), self._now[chunk]
            if len(before) == 1 and before.isdisjoint(now):
                (giver,) = before
                self._hub.blame(giver)
                said.append(f"{giver} gave wrong bytes of {self._path} (chunk {chunk})")
                facts = {"endpoint": giver, "besides": sorted(now), "path": self._path}
                log.warning("an endpoint gave wrong bytes", extra=facts | {"chunk": chunk})
        self.shunned = frozenset()
        return "; ".join(said) or None
