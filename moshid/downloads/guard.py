"""Looks after one open connection: its seat while it is silent, its end when it has stalled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from moshid.downloads.pace import Gate
from moshid.downloads.stall import Watch

LOOK_S: Final = 0.05
LATE_S: Final = 0.05
"""A look that is later than that says more of this process, which was held up, than of the line."""


class Guard:
    """Looks at ``watch`` now and then; lends the connection's seat in ``gate``, ends ``timer``."""

    def __init__(self, watch: Watch, gate: Gate, timer: asyncio.Timeout) -> None:
        self._watch = watch
        self._gate = gate
        self._timer = timer
        self._lent = False
        self._handle: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    @contextmanager
    def on_duty(self) -> Iterator[None]:
        """Look until the block is left."""
        self._due_s = asyncio.get_running_loop().time()
        self._look()
        try:
            yield
        finally:
            if self._handle is not None:
                self._handle.cancel()
            self._settle(silent=False)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        late_s = loop.time() - self._due_s
        if late_s > LATE_S:
            self._watch.forgive(late_s)
        if self._watch.is_over:
            self._timer.reschedule(loop.time())
            return
        self._settle(silent=self._watch.is_silent)
        self._due_s = loop.time() + LOOK_S
        self._handle = loop.call_at(self._due_s, self._look)

    def _settle(self, *, silent: bool) -> None:
        if silent and not self._lent:
            self._gate.lend()
        elif self._lent and not silent:
            self._gate.take_back()
        self._lent = silent
