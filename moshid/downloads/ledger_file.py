"""The ledger's file: opening, durability, schema version and migrations. Knows no queries.

WAL with synchronous=FULL: a commit that returned survives a power cut. A ledger from a later
version is refused without a byte changed; one that is no ledger is refused and left alone.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Final

from moshid.errors import LedgerBroken, LedgerTooNew

APPLICATION_ID: Final = 0x6D736864
""""mshd", in SQLite's header: this database is a moshid ledger."""

SQLITE_PAGE_BYTES_MIN: Final = 512
"""SQLite takes what is shorter for an empty database, and would begin a new one over it."""

MOVE_AWAY: Final = "Move it away, then start moshid again: it makes a ledger of its own."

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
_APPLICATION_AT: Final = 68
_OUR_TABLES: Final = frozenset({"meta", "jobs", "wants", "files", "blobs", "chunks", "checked"})

MIGRATIONS: Final[Sequence[str]] = (
    "CREATE TABLE refs (job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,"
    " revision TEXT NOT NULL, asked_s REAL NOT NULL, PRIMARY KEY (job_id, revision))"
    " STRICT, WITHOUT ROWID;"
    " INSERT INTO refs SELECT id, revision, created_s FROM jobs;",
    "ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;"
    " ALTER TABLE jobs ADD COLUMN limit_bps INTEGER;"
    " ALTER TABLE blobs ADD COLUMN digest_kind TEXT NOT NULL DEFAULT 'sha256';"
    " CREATE TABLE sources (job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,"
    " path TEXT NOT NULL, PRIMARY KEY (job_id, path)) STRICT, WITHOUT ROWID;",
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
        LedgerBroken: it is damaged (``facts["damaged"]``), no ledger at all, or cannot be used.
    """
    latest = len(migrations) + 1
    look(path, latest)
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        try:
            _make_durable(db)
            _bring_to(db, latest, latest_schema or schema(), migrations)
        except BaseException:
            db.close()
            raise
    except sqlite3.DatabaseError as e:
        raise LedgerBroken(f"the download ledger {path} cannot be used: {e}") from e
    return db


def look(path: Path, latest: int = len(MIGRATIONS) + 1) -> int:
    """How many tables a ledger has, if it can be used as it is; changes nothing. Raises as
    ``open_ledger`` does."""
    if not path.exists():
        return 0
    if not path.is_file():
        what = "a folder" if path.is_dir() else "something"
        raise LedgerBroken(
            f"{path} is {what}, and no file: the download ledger cannot be there", hint=MOVE_AWAY
        )
    try:
        return _look(path, latest)
    except sqlite3.DatabaseError as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF
        damaged = code in _DAMAGE and application_of(path) in (None, 0, APPLICATION_ID)
        raise LedgerBroken(f"the download ledger {path} is damaged: {e}", damaged=damaged) from e


def application_of(path: Path) -> int | None:
    """The application id in the header of an SQLite file; None if there is no such header."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        return None
    return int.from_bytes(header[_APPLICATION_AT : _APPLICATION_AT + 4], "big")


def _look(path: Path, latest: int) -> int:
    """By a read-only connection, which changes nothing."""
    if 0 < path.stat().st_size < SQLITE_PAGE_BYTES_MIN:
        raise LedgerBroken(f"the download ledger {path} is cut short", damaged=True)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        tables = {str(name) for (name,) in db.execute("SELECT name FROM sqlite_schema")}
        if tables and application != APPLICATION_ID and not tables >= _OUR_TABLES:
            raise LedgerBroken(f"{path} is a database, but no download ledger")
        if version > latest:
            raise LedgerTooNew(
                f"the download ledger {path} has version {version}; this moshid knows {latest}"
            )
        verdict = _verdict(db, tables, version, application)
        if verdict != "ok":
            raise LedgerBroken(f"the download ledger {path} is damaged: {verdict}", damaged=True)
        return len(tables)


def _verdict(db: sqlite3.Connection, tables: set[str], version: int, application: int) -> str:
    if tables and (application != APPLICATION_ID or version < 1):
        return "its header is wrong"
    if application == APPLICATION_ID and not tables >= _OUR_TABLES:
        return "tables are missing"
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    return str(verdict)


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
