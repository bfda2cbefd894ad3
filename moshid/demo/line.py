"""A bad line, for the demo: a shared rate limit and cuts after given numbers of bytes.

Owns no sockets, only their fate: the servers ask ``pass_on`` before each piece they send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

_PIECE_BYTES_MAX: Final = 256 * 1024
_PIECE_BYTES_MIN: Final = 4 * 1024
_PIECES_PER_S: Final = 50


class Line:
    """All connections share ``rate_bps`` bytes a second; each of ``cut_after_bytes`` (bytes sent
    in all, rising) drops every connection that is in the middle of a body at that moment."""

    def __init__(self, rate_bps: float | None, cut_after_bytes: Iterable[int]) -> None:
        self._rate_bps = rate_bps
        self._cuts = deque(sorted(cut_after_bytes))
        self._free_at_s = 0.0
        self._open: set[asyncio.Transport] = set()
        self.sent_bytes = 0
        self.cuts_done = 0

    @property
    def piece_bytes(self) -> int:
        """How much to send at once, so that the pace is even."""
        if self._rate_bps is None:
            return _PIECE_BYTES_MAX
        even = int(self._rate_bps / _PIECES_PER_S)
        return min(max(even, _PIECE_BYTES_MIN), _PIECE_BYTES_MAX)

    def joined(self, transport: asyncio.Transport) -> None:
        """``transport`` begins a body."""
        self._open.add(transport)

    def left(self, transport: asyncio.Transport) -> None:
        """``transport`` has ended its body."""
        self._open.discard(transport)

    async def pass_on(self, count_bytes: int) -> None:
        """Wait for this piece's turn, and count it; cuts the line when it is time to."""
        if self._rate_bps is not None:
            now_s = asyncio.get_running_loop().time()
            start_s = max(now_s, self._free_at_s)
            self._free_at_s = start_s + count_bytes / self._rate_bps
            if start_s > now_s:
                await asyncio.sleep(start_s - now_s)
        self.sent_bytes += count_bytes
        while self._cuts and self.sent_bytes >= self._cuts[0]:
            self._cuts.popleft()
            self.cuts_done += 1
            for transport in tuple(self._open):
                transport.abort()
