"""How long an idle model stays resident. Owns its uses, its deadline, and what it is warmed for.

The deadline is a time of day, told as ``until``: a machine that slept past it unloads when it
wakes. Nothing here touches a process; the service asks and acts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

WARM_AFTER_CALL_S: Final = 600.0
"""A model is kept warm for so long after anybody asked the daemon for anything."""


class Keeping:
    """Uses come and go; the time to live counts from the end of the last."""

    def __init__(
        self,
        keep_alive_s: float | None,
        *,
        clock: Callable[[], float] = time.time,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._default_s = keep_alive_s
        self._clock = clock
        self._changed = changed
        self._uses: set[str] = set()
        self._resident = False
        self._was_used = False  # since a load was last asked for
        self._until: float | None = None
        self._called_at: float | None = None
        self.keep_alive_s = keep_alive_s
        """Seconds that the model stays after its last use; None: for ever."""

    @property
    def in_use(self) -> bool:
        """Whether a talk or a benchmark has the model, or a load is waited for."""
        return bool(self._uses)

    @property
    def until(self) -> str | None:
        """When it will be unloaded (RFC 3339, UTC); None while it is in use, or for ever."""
        if self._until is None:
            return None
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._until))

    @property
    def left_s(self) -> float | None:
        """Seconds until it is to be unloaded, 0 when it is due; None: no such time."""
        return None if self._until is None else max(0.0, self._until - self._clock())

    def begin(self, use: str) -> None:
        """Somebody uses the model, or is about to."""
        self._uses.add(use)
        self._set_until(None)

    def end(self, use: str, *, asked: bool = True) -> None:
        """A use is over; the time to live begins when it was the last. One that nobody ``asked``
        for is none that a time of 0 waits for."""
        if use in self._uses:
            self._uses.discard(use)
            self._was_used |= asked
            self._count()

    def wanted(self) -> None:
        """A load is asked for. With a time to live of 0 it stays from here until it was used once:
        else a load would be for nothing. A use that ends while it loads is that one."""
        self._was_used = False

    def loaded(self) -> None:
        """It is resident; the time to live counts from here if it has no use."""
        self._resident = True
        self._count()

    def gone(self) -> None:
        """It is resident no more; the next one has the default again."""
        self.failed()
        self.keep_alive_s = self._default_s

    def failed(self) -> None:
        """It is not resident, though wanted: there is nothing to unload."""
        self._resident = False
        self._set_until(None)

    def keep(self, keep_alive_s: float | None) -> None:
        """From now on it stays so long after its last use; counted from here if it has none."""
        self.keep_alive_s = keep_alive_s
        self._count()

    def note_call(self) -> None:
        """Somebody asked the daemon for something."""
        self._called_at = self._clock()

    @property
    def wants_warmth(self) -> bool:
        """Whether somebody may speak to the model soon."""
        called = self._called_at
        recent = called is not None and 0 <= self._clock() - called < WARM_AFTER_CALL_S
        return self.in_use or recent

    def _count(self) -> None:
        keep_s = self.keep_alive_s
        waits = not self._resident or bool(self._uses) or (keep_s == 0.0 and not self._was_used)
        self._set_until(None if keep_s is None or waits else self._clock() + keep_s)

    def _set_until(self, until: float | None) -> None:
        if until != self._until:
            self._until = until
            self._changed()
