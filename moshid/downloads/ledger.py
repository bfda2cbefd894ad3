"""The chunk ledger: what is wanted, what is on disk for good. Owns all queries.

``Ledger`` is plain SQLite and lives in one thread (``ledger_thread``). The rule of the whole
engine: the ledger never says more than the disk holds.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from moshid.downloads.ledger_copy import LedgerCopy
from moshid.downloads.ledger_file import open_ledger
from moshid.downloads.ledger_rows import Blob as Blob
from moshid.downloads.ledger_rows import Counters as Counters
from moshid.downloads.ledger_rows import FileRow as FileRow
from moshid.downloads.ledger_rows import JobRow as JobRow
from moshid.downloads.ledger_rows import Want as Want
from moshid.downloads.plan import Chunk, split

_ABSORBED = "absorbed:"
"""Before a job's id, in the ledger's memory: it is part of another."""


class Ledger:
    """Queries on an open ledger. One thread only."""

    def __init__(self, path: Path) -> None:
        self._db = open_ledger(path)
        self.copy = LedgerCopy(self._db, path)

    def close(self) -> None:
        """Close the database; what was committed stays."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def meta(self, key: str) -> str | None:
        """A remembered value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str = "") -> None:
        """Remember a value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def forget_meta(self, key: str) -> None:
        """Forget a value."""
        self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    def jobs(self) -> list[JobRow]:
        """All jobs, oldest first."""
        rows = self._db.execute("SELECT * FROM jobs ORDER BY created_s, id")
        return [JobRow(*row) for row in rows]

    def add_job(self, job: JobRow) -> None:
        """Enter a new job; its ``created_s`` is now."""
        self._db.execute(
            "INSERT INTO jobs (id, endpoint, repo, revision, commit_hash, profile, chunk_bytes,"
            " workers, state, created_s, priority, limit_bps) VALUES (:id, :endpoint, :repo,"
            " :revision, :commit_hash, :profile, :chunk_bytes, :workers, :state, :created_s,"
            " :priority, :limit_bps)",
            asdict(replace(job, created_s=time.time())),
        )

    def set_state(self, job_id: str, state: str, error: str | None) -> None:
        """Record a job's state and the JSON of its error."""
        sql = "UPDATE jobs SET state = ?, error = ? WHERE id = ?"
        self._db.execute(sql, (state, error, job_id))

    def set_terms(self, job_id: str, priority: int, limit_bps: int | None) -> None:
        """Record on which terms a job uses the line."""
        sql = "UPDATE jobs SET priority = ?, limit_bps = ? WHERE id = ?"
        self._db.execute(sql, (priority, limit_bps, job_id))

    def set_manner(self, job: JobRow) -> None:
        """Record how a job fetches from now on."""
        self._db.execute(
            "UPDATE jobs SET profile = :profile, chunk_bytes = :chunk_bytes, workers = :workers"
            " WHERE id = :id",
            asdict(job),
        )

    def set_commit(self, job_id: str, commit: str) -> str | None:
        """Pin a job to the commit its revision was resolved to. If another job holds that commit
        already, nothing changes and that job's id is returned."""
        with self._transaction() as db:
            query = (
                "SELECT o.id FROM jobs o JOIN jobs j ON o.endpoint = j.endpoint AND o.repo = j.repo"
                " WHERE j.id = ? AND o.id <> j.id AND o.commit_hash = ?"
            )
            if (other := db.execute(query, (job_id, commit)).fetchone()) is not None:
                return str(other[0])
            db.execute("UPDATE jobs SET commit_hash = ? WHERE id = ?", (commit, job_id))
        return None

    def settle_commit(self, job_id: str, commit: str) -> None:
        """Pin a job to a commit; any other at the same one becomes part of it."""
        while (other := self.set_commit(job_id, commit)) is not None:
            self.absorb_job(job_id, other)

    def delete_job(self, job_id: str) -> None:
        """Strike a job and its files; chunks stay, other jobs may want them."""
        self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def delete_jobs(self, job_ids: Iterable[str]) -> None:
        """Strike many at once."""
        with self._transaction() as db:
            db.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in job_ids])

    def absorb_job(self, job_id: str, other: str) -> None:
        """Strike another job at the same commit; what it was to fetch, and for which revisions, is
        this job's from now on, unless it had been given up."""
        live = (
            "job_id IN (SELECT id FROM jobs WHERE id = ? AND state NOT IN ('cancelled', 'failed'))"
        )
        both = (job_id, other)
        with self._transaction() as db:
            sql = "INSERT OR IGNORE INTO wants SELECT ?, quality, files, 0 FROM wants WHERE "
            db.execute(sql + live, both)
            sql = "INSERT OR IGNORE INTO refs SELECT ?, revision, asked_s FROM refs WHERE "
            db.execute(sql + live, both)
            sql = "INSERT OR IGNORE INTO sources SELECT ?, path FROM sources WHERE "
            db.execute(sql + live, both)
            self.delete_job(other)
            sql = "UPDATE meta SET value = ? WHERE substr(key, 1, ?) = ? AND value = ?"
            db.execute(sql, (job_id, len(_ABSORBED), _ABSORBED, other))
            self.set_meta(_ABSORBED + other, job_id)

    def absorbed(self) -> dict[str, str]:
        """Jobs that are no more: id → the job that each became part of."""
        sql = "SELECT substr(key, ?), value FROM meta WHERE substr(key, 1, ?) = ?"
        rows = self._db.execute(sql, (len(_ABSORBED) + 1, len(_ABSORBED), _ABSORBED))
        return {str(other): str(job_id) for other, job_id in rows}

    def add_ref(self, job_id: str, revision: str) -> None:
        """Somebody asked for this job by a revision, now."""
        sql = "INSERT OR REPLACE INTO refs VALUES (?, ?, ?)"
        self._db.execute(sql, (job_id, revision, time.time()))

    def refs(self, job_id: str) -> list[str]:
        """The revisions that a job stands for, besides those which were asked for again later and
        have another commit since."""
        sql = (
            "SELECT r.revision FROM refs r JOIN jobs j ON j.id = r.job_id WHERE j.id = ?"
            " AND NOT EXISTS (SELECT 1 FROM refs o JOIN jobs k ON k.id = o.job_id"
            " WHERE o.revision = r.revision AND k.endpoint = j.endpoint AND k.repo = j.repo"
            " AND k.id <> j.id AND k.state = 'done' AND o.asked_s > r.asked_s)"
        )
        return [str(row[0]) for row in self._db.execute(sql, (job_id,))]

    def forget_wants(self, job_id: str, *, resolved: bool) -> None:
        """A job is to fetch no more what is not resolved into files yet; or nothing at all."""
        with self._transaction() as db:
            sql = "DELETE FROM wants WHERE job_id = ? AND (? OR NOT resolved)"
            db.execute(sql, (job_id, resolved))
            db.execute("DELETE FROM files WHERE job_id = ? AND ?", (job_id, resolved))

    def unresolve(self, job_id: str) -> None:
        """What a job is to fetch is to be asked for anew; until then it is as it was."""
        self._db.execute("UPDATE wants SET resolved = 0 WHERE job_id = ?", (job_id,))

    def add_want(self, job_id: str, want: Want) -> bool:
        """Add to what a job is to fetch; False if it was asked for before."""
        values = (job_id, want.quality, json.dumps(sorted(want.files)))
        sql = "INSERT OR IGNORE INTO wants (job_id, quality, files) VALUES (?, ?, ?)"
        return self._db.execute(sql, values).rowcount > 0

    def wants(self, job_id: str, *, resolved: bool) -> list[Want]:
        """What was asked for and is (not) yet resolved into files."""
        sql = "SELECT quality, files FROM wants WHERE job_id = ? AND resolved = ?"
        return [Want(q, tuple(json.loads(f))) for q, f in self._db.execute(sql, (job_id, resolved))]

    def resolve_want(self, job_id: str, want: Want, files: Iterable[FileRow]) -> None:
        """Enter the files that a want means; those known keep their state."""
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?) ON CONFLICT (job_id, path)"
                " DO UPDATE SET etag = excluded.etag, size = excluded.size",
                [(job_id, f.path, f.etag, f.size, f.state) for f in files],
            )
            db.execute(
                "UPDATE wants SET resolved = 1 WHERE job_id = ? AND quality = ? AND files = ?",
                (job_id, want.quality, json.dumps(sorted(want.files))),
            )

    def add_sources(self, job_id: str, paths: Iterable[str]) -> bool:
        """Files and folders that may hold bytes of a job's files; False if all were known."""
        before = self._db.total_changes
        values = [(job_id, path) for path in paths]
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO sources VALUES (?, ?)", values)
        return self._db.total_changes > before

    def sources(self, job_id: str) -> list[str]:
        """What was named as a source of a job's bytes."""
        sql = "SELECT path FROM sources WHERE job_id = ? ORDER BY path"
        return [str(row[0]) for row in self._db.execute(sql, (job_id,))]

    def files(self, job_id: str) -> list[FileRow]:
        """A job's files, by path."""
        sql = "SELECT path, etag, size, state FROM files WHERE job_id = ? ORDER BY path"
        return [FileRow(*row) for row in self._db.execute(sql, (job_id,))]

    def set_file_state(self, job_id: str, path: str, state: str) -> None:
        """Record a file's state."""
        sql = "UPDATE files SET state = ? WHERE job_id = ? AND path = ?"
        self._db.execute(sql, (state, job_id, path))

    def blob(self, etag: str) -> Blob | None:
        """What is known of a blob's partial file."""
        row = self._db.execute("SELECT * FROM blobs WHERE etag = ?", (etag,)).fetchone()
        return None if row is None else Blob(*row)

    def set_blob(self, blob: Blob) -> None:
        """Trust a blob's chunks, in this boot and this file. A new plan forgets them."""
        with self._transaction() as db:
            old = self.blob(blob.etag)
            if old is not None and old.plan != blob.plan:
                db.execute("DELETE FROM blobs WHERE etag = ?", (blob.etag,))
            db.execute(
                "INSERT INTO blobs VALUES (:etag, :size, :chunk_bytes, :boot_id, :device, :inode,"
                " :digest_kind) ON CONFLICT (etag) DO UPDATE SET"
                " boot_id = excluded.boot_id, device = excluded.device, inode = excluded.inode",
                asdict(blob),
            )

    def forget_blob(self, etag: str) -> None:
        """Forget a blob and its chunks."""
        self._db.execute("DELETE FROM blobs WHERE etag = ?", (etag,))

    def etags_wanted_besides(self, job_id: str) -> set[str]:
        """Digests that other, unfinished jobs want in the cache: their partials must stay."""
        sql = (
            "SELECT DISTINCT f.etag FROM files f JOIN jobs j ON j.id = f.job_id"
            " WHERE j.id <> ? AND j.state NOT IN ('done', 'cancelled')"
            " AND j.endpoint NOT LIKE 'file:%'"
        )
        return {str(row[0]) for row in self._db.execute(sql, (job_id,))}

    def chunks(self, etag: str) -> list[Chunk]:
        """The plan of a blob with what is durable of it; empty if the blob is unknown."""
        blob = self.blob(etag)
        if blob is None:
            return []
        chunks = split(*blob.plan)
        sql = "SELECT idx, durable_bytes, digest, done, suspicion FROM chunks WHERE etag = ?"
        for index, durable, digest, done, suspicion in self._db.execute(sql, (etag,)):
            chunk = chunks[index]
            chunk.durable_bytes, chunk.digest = durable, digest
            chunk.done, chunk.suspicion = bool(done), suspicion
        return chunks

    def record(self, etag: str, chunks: Sequence[Chunk], counters: Iterable[Counters] = ()) -> None:
        """Record chunks as they are now, and the counters, in one durable commit."""
        with self._transaction() as db:
            db.executemany(
                "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (etag, idx) DO UPDATE SET"
                " durable_bytes = excluded.durable_bytes, digest = excluded.digest,"
                " done = excluded.done, suspicion = excluded.suspicion",
                [(etag, c.index, c.durable_bytes, c.digest, c.done, c.suspicion) for c in chunks],
            )
            for counter in counters:
                self.count(counter)

    def count(self, counters: Counters) -> None:
        """Record a job's counts."""
        self._db.execute(
            "UPDATE jobs SET bytes_fetched = :bytes_fetched, bytes_rescued = :bytes_rescued,"
            " chunks_corrupt = :chunks_corrupt, retries = :retries WHERE id = :job_id",
            asdict(counters),
        )

    def is_checked(self, path: str, size: int, mtime_ns: int, inode: int) -> bool:
        """Whether this very file's digest was verified before."""
        sql = "SELECT 1 FROM checked WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        return self._db.execute(sql, (path, size, mtime_ns, inode)).fetchone() is not None

    def set_checked(self, path: str, size: int, mtime_ns: int, inode: int) -> None:
        """Remember that this very file's digest was verified."""
        values = (path, size, mtime_ns, inode)
        self._db.execute("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?)", values)

    def forget_checked(self, path: str) -> None:
        """That file was found wrong, or is about to be another."""
        self._db.execute("DELETE FROM checked WHERE path = ?", (path,))
