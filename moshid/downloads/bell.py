"""A bell that wakes everybody who waits for it. Owns no state: whoever wakes looks for himself."""

from __future__ import annotations

import asyncio


class Bell:
    """Ring it when something changed; wait for the next ring."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake those who wait now."""
        rung, self._event = self._event, asyncio.Event()
        rung.set()

    async def wait(self) -> None:
        """Return at the next ring."""
        await self._event.wait()
