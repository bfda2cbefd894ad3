"""The thread that the ledger lives in, for callers on the event loop. Owns no queries."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from moshid.downloads.ledger import Ledger
from moshid.errors import DiskFull, LedgerBroken

P = ParamSpec("P")
T = TypeVar("T")


class LedgerThread:
    """The one thread that the ledger lives in. Calls are done in the order they were made."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None

    async def open(self, path: Path) -> None:
        """Open the ledger; raises as ``open_ledger`` does."""
        loop = asyncio.get_running_loop()
        self._ledger = await loop.run_in_executor(self._thread, Ledger, path)

    async def call(
        self, method: Callable[Concatenate[Ledger, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``await thread.call(Ledger.jobs)``: run a method of the ledger in its thread.

        Raises:
            DiskFull, LedgerBroken: what SQLite cannot do.
        """
        ledger = self._ledger
        if ledger is None:
            raise RuntimeError("the ledger is not open")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: method(ledger, *args, **kwargs))
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as e:
            if getattr(e, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise DiskFull("no room left on the volume of MOSHID_HOME, for the ledger") from e
            raise LedgerBroken(f"the download ledger cannot be used: {e}") from e

    def close(self) -> None:
        """Finish the calls under way, then close. Blocking, briefly."""
        if self._ledger is not None:
            self._thread.submit(self._ledger.close)
        self._ledger = None
        self._thread.shutdown(wait=True)
