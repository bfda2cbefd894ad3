"""The thread that the ledger lives in, for callers on the event loop. Owns no queries.

A damaged ledger is rebuilt before it is opened; its copy is written a moment after a change.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from moshid.downloads.ledger import Ledger
from moshid.downloads.ledger_rebuild import Rebuilt, mend
from moshid.errors import DiskFull, LedgerBroken, PartialLocked

P = ParamSpec("P")
T = TypeVar("T")

SAVE_AFTER_S: Final = 0.5

log = logging.getLogger(__name__)


class LedgerThread:
    """The one thread that the ledger lives in. Calls are done in the order they were made, also
    those that nobody waits for any more: what memory has settled already has to be written."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None
        self._saving: asyncio.TimerHandle | None = None
        self.rebuilt: Rebuilt | None = None
        """What became of the ledger, if it was damaged when it was opened."""

    async def open(self, path: Path) -> None:
        """Open the ledger; raises as ``mend`` and ``open_ledger`` do."""
        loop = asyncio.get_running_loop()
        self.rebuilt = await loop.run_in_executor(self._thread, mend, path)
        self._ledger = await loop.run_in_executor(self._thread, Ledger, path)
        self._save_soon(self._ledger)

    async def call(
        self, method: Callable[Concatenate[Ledger, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``await thread.call(Ledger.jobs)``: run a method of the ledger in its thread.

        Raises:
            DiskFull, LedgerBroken: what SQLite cannot do.
            PartialLocked: another program is writing it, and was for long.
        """
        ledger = self._ledger
        if ledger is None:
            raise RuntimeError("the ledger is not open")
        loop = asyncio.get_running_loop()
        doing = loop.run_in_executor(self._thread, lambda: method(ledger, *args, **kwargs))
        doing.add_done_callback(lambda _done: self._save_soon(ledger))
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            doing.add_done_callback(_complain)
            raise
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as e:
            code = getattr(e, "sqlite_errorcode", None)
            if code == sqlite3.SQLITE_FULL:
                raise DiskFull("no room left on the volume of MOSHID_HOME, for the ledger") from e
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise PartialLocked(
                    "another program holds the download ledger",
                    hint="Let go of ledger.db in MOSHID_HOME there; the job goes on by itself.",
                ) from e
            raise LedgerBroken(f"the download ledger cannot be used: {e}") from e

    def close(self) -> None:
        """Finish the calls under way, then close. Blocking, briefly."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            self._thread.submit(ledger.copy.save)
            self._thread.submit(ledger.close)
        self._thread.shutdown(wait=True)

    def _save_soon(self, ledger: Ledger) -> None:
        """Write the copy once for many changes in a row, behind calls that are waiting."""
        if ledger.copy.stale and self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_AFTER_S, self._save)

    def _save(self) -> None:
        self._saving = None
        ledger = self._ledger
        if ledger is not None:
            with suppress(RuntimeError):  # closed at this very moment, and saved
                self._thread.submit(ledger.copy.save)


def _complain(doing: asyncio.Future[Any]) -> None:
    """Say what became of a call that nobody waits for any more, if it failed."""
    if not doing.cancelled() and (error := doing.exception()) is not None:
        log.warning("a call to the ledger failed", extra={"why": str(error)})
