"""A copy of what only the ledger knows, as JSON beside it: jobs, what they want, their files.

Chunks are not in it: they can be found out by reading partial files. Written anew, by a rename,
when one of these tables has changed; bytes that arrive change none of them.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from moshid.downloads.disk import sync

Rows = list[dict[str, Any]]

COPIED: Final[Mapping[str, str]] = {
    "jobs": "UPDATE OF state, commit_hash, error, profile, chunk_bytes, workers, priority,"
    " limit_bps",
    "wants": "UPDATE",
    "refs": "UPDATE",
    "files": "UPDATE",
    "sources": "UPDATE",
}
"""The tables, and what counts as a change besides new and deleted rows: a job's counts do not."""

FORMAT: Final = 1

log = logging.getLogger(__name__)


def copy_of(ledger: Path) -> Path:
    """Where a ledger's copy lies."""
    return ledger.with_suffix(".json")


class LedgerCopy:
    """Keeps the copy of an open ledger. In the ledger's thread only."""

    def __init__(self, db: sqlite3.Connection, ledger: Path) -> None:
        self._db = db
        self._path = copy_of(ledger)
        self.stale = True
        db.execute("PRAGMA temp_store = MEMORY")
        db.create_function("moshid_changed", 0, self._changed)
        for table, update in COPIED.items():
            for event in ("INSERT", "DELETE", update):
                db.execute(
                    f"CREATE TEMP TRIGGER copy_{table}_{event[:6]} AFTER {event} ON main.{table}"
                    " BEGIN SELECT moshid_changed(); END"
                )

    def save(self) -> None:
        """Write the copy, if it is stale. Blocking; what goes wrong is logged, and tried again with
        the next change."""
        if not self.stale:
            return
        try:
            tables = {table: rows_of(self._db, f"SELECT * FROM {table}") for table in COPIED}
            _write(self._path, json.dumps({"format": FORMAT, "tables": tables}, indent=1))
        except (OSError, sqlite3.DatabaseError) as e:
            log.warning("the ledger's copy cannot be written", extra={"why": str(e)})
        else:
            self.stale = False

    def _changed(self) -> None:
        self.stale = True


def rows_of(db: sqlite3.Connection, query: str) -> Rows:
    """A query's rows, by column."""
    cursor = db.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def read_copy(ledger: Path) -> dict[str, Rows]:
    """What the copy has, by table; nothing if there is none, or none that can be read."""
    if not copy_of(ledger).is_file():
        return {}  # a FIFO would be waited for
    try:
        told = json.loads(copy_of(ledger).read_text(encoding="utf-8"))
        tables = {table: list(told["tables"][table]) for table in COPIED}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {name: [row for row in rows if isinstance(row, dict)] for name, rows in tables.items()}


def _write(path: Path, text: str) -> None:
    new = path.with_suffix(".json.new")
    with open(new, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)
        file.flush()
        sync(file.fileno())
    new.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
