"""Room at a server that allows few connections: who was refused one waits, who needs his no more
makes room. Owns the order of those who wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class Room:
    """Of one file. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Event] = deque()

    async def wait(self, seconds: float) -> bool:
        """Wait for so long, or until there is room; whether there is."""
        room = asyncio.Event()
        self._waiting.append(room)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await room.wait()
        finally:
            if not room.is_set():
                self._waiting.remove(room)
        return room.is_set()

    def make(self) -> None:
        """A connection has nothing left to do: who has waited longest may try at once."""
        if self._waiting:
            self._waiting.popleft().set()
