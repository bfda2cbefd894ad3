"""Reads out of a damaged ledger what can still be read, row by row, and checks that it makes sense.

Changes nothing. Chunks are left behind on purpose: what a damaged file says of bytes on the disk is
worth nothing, while the partial files can be read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from moshid.downloads.digests import is_digest
from moshid.downloads.job import JobError
from moshid.downloads.ledger_copy import Rows
from moshid.downloads.states import FileState, JobState

Row = Mapping[str, Any]

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "jobs": ("id",),
    "wants": ("job_id", "quality", "files"),
    "refs": ("job_id", "revision"),
    "files": ("job_id", "path"),
    "sources": ("job_id", "path"),
    "checked": ("path",),
    "meta": ("key",),
}
"""The tables that are read, in the order in which they can be written, with their primary keys."""

_QUERIES: Final = (
    "SELECT * FROM {table} NOT INDEXED",
    "SELECT * FROM {table} ORDER BY {key}",
    "SELECT * FROM {table} ORDER BY {key} DESC",
)
"""Ways through a table: by itself, by its key from both ends."""


def salvage(ledger: Path, copy: Mapping[str, Rows]) -> dict[str, Rows]:
    """What is left, by table; where a table cannot be read to its end, its ``copy`` fills it up."""
    found = {table: _read(ledger, table) for table in KEYS}
    told: dict[str, Rows] = {}
    for table, (rows, complete) in found.items():
        more = [] if complete else copy.get(table, [])
        told[table] = _merge(KEYS[table], [r for r in (*rows, *more) if is_sane(table, r)])
    return told


def is_sane(table: str, row: Row) -> bool:
    """Whether the daemon can live with a row; SQLite checks the types."""
    try:
        return _CHECKS.get(table, _anything)(row)
    except (KeyError, ValueError, TypeError, msgspec.MsgspecError):
        return False


def _read(ledger: Path, table: str) -> tuple[Rows, bool]:
    """A table's rows, and whether those are all."""
    rows: Rows = []
    for query in _QUERIES:
        text = query.format(table=table, key=", ".join(KEYS[table]))
        try:
            with closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as db:
                cursor = db.execute(text)
                names = [column[0] for column in cursor.description]
                rows += (dict(zip(names, row, strict=True)) for row in cursor)
                return rows, True
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            continue
    return rows, False


def _merge(key: Iterable[str], rows: Rows) -> Rows:
    """Each row once; the first word counts."""
    names = tuple(key)
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        merged.setdefault(tuple(row.get(name) for name in names), row)
    return list(merged.values())


def _job(row: Row) -> bool:
    if row["error"] is not None:
        msgspec.json.decode(row["error"], type=JobError)
    return bool(row["id"] and row["endpoint"] and row["repo"] and JobState(row["state"]))


def _want(row: Row) -> bool:
    files = json.loads(row["files"])
    return isinstance(files, list) and all(isinstance(f, str) for f in files)


def _file(row: Row) -> bool:
    return bool(FileState(row["state"])) and is_digest(row["etag"]) and row["size"] >= 0


def _anything(_row: Row) -> bool:
    return True


_CHECKS: Final[Mapping[str, Callable[[Row], bool]]] = {"jobs": _job, "wants": _want, "files": _file}
