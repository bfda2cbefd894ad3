"""The ledger's file: opening, durability, schema version and migrations. Knows no queries.

WAL with synchronous=FULL: a commit that returned survives a power cut. A ledger from a later
version is refused without a byte changed; one that is no ledger is refused and left alone.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from moshid.errors import LedgerBroken, LedgerTooNew

APPLICATION_ID: Final = 0x6D736864
""""mshd", in SQLite's header: this database is a moshid ledger."""

SQLITE_PAGE_BYTES_MIN: Final = 512
"""SQLite takes what is shorter for an empty database, and would begin a new one over it."""

MIGRATIONS: Final[Sequence[str]] = (
    "CREATE TABLE refs (job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,"
    " revision TEXT NOT NULL, asked_s REAL NOT NULL, PRIMARY KEY (job_id, revision))"
    " STRICT, WITHOUT ROWID;"
    " INSERT INTO refs SELECT id, revision, created_s FROM jobs;",
)
"""``MIGRATIONS[i]`` turns version ``i + 1`` into ``i + 2``; schema.sql is always the latest."""


def schema() -> str:
    """The latest schema, from the package's data."""
    return resources.files("moshid.downloads").joinpath("schema.sql").read_text(encoding="utf-8")


def open_ledger(
    path: Path, *, latest_schema: str | None = None, migrations: Sequence[str] = MIGRATIONS
) -> sqlite3.Connection:
    """Open the ledger, made new or brought to the latest version. Use it in this thread only.

    Raises:
        LedgerTooNew: a later version wrote it.
        LedgerBroken: it is damaged, or no ledger at all.
    """
    latest = len(migrations) + 1
    try:
        if path.exists():
            _refuse_foreign(path, latest)
        db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        try:
            _make_durable(db)
            _bring_to(db, latest, latest_schema or schema(), migrations)
        except BaseException:
            db.close()
            raise
    except sqlite3.DatabaseError as e:
        raise LedgerBroken(f"the download ledger {path} is damaged: {e}") from e
    return db


def _refuse_foreign(path: Path, latest: int) -> None:
    """Look before touching: a read-only connection changes nothing."""
    if 0 < path.stat().st_size < SQLITE_PAGE_BYTES_MIN:
        raise LedgerBroken(f"the download ledger {path} is cut short")
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        ours = application == APPLICATION_ID
        if tables and not ours:
            raise LedgerBroken(f"{path} is a database, but no download ledger")
        if version > latest:
            raise LedgerTooNew(
                f"the download ledger {path} has version {version}; this moshid knows {latest}"
            )
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise LedgerBroken(f"the download ledger {path} is damaged: {verdict}")
    finally:
        db.close()


def _make_durable(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":
        db.execute("PRAGMA fullfsync = 1")
        db.execute("PRAGMA checkpoint_fullfsync = 1")
    db.execute("PRAGMA foreign_keys = ON")


def _bring_to(db: sqlite3.Connection, latest: int, fresh: str, migrations: Sequence[str]) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        _apply(db, fresh, latest)
        return
    for step in range(version, latest):
        _apply(db, migrations[step - 1], step + 1)


def _apply(db: sqlite3.Connection, script: str, version: int) -> None:
    """Run a script and set the version, in one transaction."""
    stamp = f"PRAGMA user_version = {version}; PRAGMA application_id = {APPLICATION_ID};"
    try:
        db.executescript(f"BEGIN IMMEDIATE; {script}\n; {stamp} COMMIT;")
    except sqlite3.DatabaseError:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
