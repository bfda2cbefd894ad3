"""Sets a damaged ledger aside and puts a new one in its place, with what could be saved.

Owns that order: the new one is whole before anything of the old one moves, and the old one is kept.
The new one knows no chunks; each partial file is read again when its job runs (see ``rescue``).
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from moshid.downloads.disk import sync_folder
from moshid.downloads.ledger_copy import Rows, read_copy
from moshid.downloads.ledger_file import look, open_ledger
from moshid.downloads.ledger_salvage import salvage
from moshid.errors import LedgerBroken

BESIDE: Final = ("-wal", "-shm")
"""What SQLite has beside a database."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of a damaged ledger. ``kept``: the old one; ``jobs``: how many could be saved."""

    kept: Path
    jobs: int


def mend(ledger: Path) -> Rebuilt | None:
    """Rebuild the ledger, if it is damaged; None if it need not be. Blocking.

    Raises:
        LedgerTooNew, LedgerBroken: it is not ours to touch, or cannot be used or rebuilt.
    """
    why = _damage(ledger)
    if why is None:
        return None
    try:
        rebuilt = _rebuild(ledger)
    except OSError as e:
        raise LedgerBroken(f"{why}; it cannot be rebuilt: {e}") from e
    facts = {"why": why, "kept": str(rebuilt.kept), "jobs": rebuilt.jobs}
    log.warning("the download ledger was damaged: it is kept, and was rebuilt", extra=facts)
    return rebuilt


def _damage(ledger: Path) -> str | None:
    """What is wrong with the ledger, if it is something that can be mended."""
    try:
        tables = look(ledger)
    except LedgerBroken as e:
        if not e.facts.get("damaged"):
            raise
        return e.message
    if tables == 0 and ledger.exists() and read_copy(ledger).get("jobs"):
        return f"the download ledger {ledger} has been emptied"
    return None


def _rebuild(ledger: Path) -> Rebuilt:
    new = ledger.with_name(f"{ledger.name}.new")
    _remove(new)
    saved = salvage(ledger, read_copy(ledger))
    jobs = _fill(new, saved)
    kept = _set_aside(ledger)
    new.replace(ledger)
    sync_folder(ledger.parent)
    return Rebuilt(kept, jobs)


def _fill(path: Path, saved: Mapping[str, Rows]) -> int:
    """Make a new ledger in one file; returns how many jobs it has."""
    with closing(open_ledger(path)) as db:
        known = {t: {c[1] for c in db.execute(f"PRAGMA table_info({t})")} for t in saved}
        db.execute("BEGIN IMMEDIATE")
        for table, rows in saved.items():
            for row in rows:
                names = [name for name in row if name in known[table]]
                marks = ", ".join("?" * len(names))
                sql = f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({marks})"
                try:
                    db.execute(sql, [row[name] for name in names])
                except (sqlite3.DatabaseError, sqlite3.InterfaceError, OverflowError) as e:
                    log.info("a row is lost", extra={"table": table, "why": str(e)})
        db.execute("COMMIT")
        (jobs,) = db.execute("SELECT count(*) FROM jobs").fetchone()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = DELETE")
    return int(jobs)


def _set_aside(ledger: Path) -> Path:
    """Keep the old one under another name. It also keeps its own until the new one takes it: a kill
    in between leaves something that is mended again."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept, count = ledger.with_name(f"{ledger.name}.broken-{stamp}"), 1
    while kept.exists():
        count += 1
        kept = ledger.with_name(f"{ledger.name}.broken-{stamp}-{count}")
    try:
        os.link(ledger, kept)
    except OSError:  # no second names on this volume
        ledger.rename(kept)
    for suffix in BESIDE:  # SQLite would play an old log into the new ledger
        old = ledger.with_name(ledger.name + suffix)
        if old.exists():
            old.rename(kept.with_name(kept.name + suffix))
    return kept


def _remove(path: Path) -> None:
    for suffix in ("", *BESIDE):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
