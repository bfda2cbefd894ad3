"""The ledger under arbitrary sequences of operations and kills, against dictionaries."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from moshid.downloads.ledger import Blob, Counters, FileRow, JobRow, Ledger, Want
from moshid.downloads.ledger_file import APPLICATION_ID, MIGRATIONS, open_ledger
from moshid.downloads.plan import Chunk, split

SETTINGS = settings(
    derandomize=True, deadline=None, database=None, max_examples=15, stateful_step_count=30
)
etags = st.sampled_from(["e1", "e2"])
job_ids = st.sampled_from(["j1", "j2", "j3"])
wants = st.builds(Want, st.sampled_from(["", "q4"]), st.sampled_from([(), ("a",), ("b", "c")]))
blobs = st.builds(
    Blob,
    etags,
    st.integers(0, 1000),
    st.integers(200, 400),
    st.sampled_from(["boot-1", "boot-2"]),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from(["sha256", "xxh3"]),
)


class LedgerMachine(RuleBasedStateMachine):
    """What was done is there, whatever comes after; nothing else is."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        self.path = self.folder / "0.db"
        self.ledger = Ledger(self.path)
        self.kills = 0
        self.jobs: dict[str, JobRow] = {}
        self.wants: dict[str, dict[Want, bool]] = {}
        self.files: dict[str, dict[str, FileRow]] = {}
        self.blobs: dict[str, Blob] = {}
        self.chunks: dict[str, list[Chunk]] = {}
        self.checked: dict[str, tuple[int, int, int]] = {}

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.path)

    @rule()
    def kill(self) -> None:
        """Go on with what is on disk now; the old connection leaves nothing of itself."""
        self.kills += 1
        killed, self.path = self.path, self.folder / f"{self.kills}.db"
        for suffix in ("", "-wal"):
            if (part := killed.with_name(killed.name + suffix)).exists():
                shutil.copyfile(part, self.path.with_name(self.path.name + suffix))
        self.ledger.close()
        self.ledger = Ledger(self.path)

    @rule(job_id=job_ids, commit=st.sampled_from([None, "c", "d"]))
    def add_job(self, job_id: str, commit: str | None) -> None:
        row = JobRow(job_id, "https://h", "o/n", "main", commit, "auto", None, None, "queued")
        taken = commit is not None and commit in {j.commit_hash for j in self.jobs.values()}
        if job_id in self.jobs or taken:
            with pytest.raises(sqlite3.IntegrityError):
                self.ledger.add_job(row)
            return
        self.ledger.add_job(row)
        self.jobs[job_id], self.wants[job_id], self.files[job_id] = row, {}, {}

    @rule(job_id=job_ids)
    def delete_job(self, job_id: str) -> None:
        self.ledger.delete_job(job_id)
        for known in (self.jobs, self.wants, self.files):
            known.pop(job_id, None)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), state=st.sampled_from(["paused", "done"]), count=st.integers(0, 1 << 62))
    def move_and_count(self, data: st.DataObject, state: str, count: int) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        self.ledger.set_state(job_id, state, None)
        self.ledger.count(Counters(job_id, count, 1, 2, 3))
        self.jobs[job_id] = replace(
            self.jobs[job_id],
            state=state,
            bytes_fetched=count,
            bytes_rescued=1,
            chunks_corrupt=2,
            retries=3,
        )

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), commit=st.sampled_from(["c", "d"]))
    def set_commit(self, data: st.DataObject, commit: str) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        others = [j for j in self.jobs.values() if j.commit_hash == commit and j.id != job_id]
        found = self.ledger.set_commit(job_id, commit)
        assert found == (others[0].id if others else None)
        if found is None:
            self.jobs[job_id] = replace(self.jobs[job_id], commit_hash=commit)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), want=wants)
    def add_want(self, data: st.DataObject, want: Want) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        assert self.ledger.add_want(job_id, want) == (want not in self.wants[job_id])
        self.wants[job_id].setdefault(want, False)

    @precondition(lambda self: any(self.wants.values()))
    @rule(data=st.data(), paths=st.sets(st.sampled_from("abc")), etag=etags)
    def resolve(self, data: st.DataObject, paths: set[str], etag: str) -> None:
        job_id = data.draw(st.sampled_from(sorted(j for j, w in self.wants.items() if w)))
        want = data.draw(st.sampled_from(sorted(self.wants[job_id], key=str)))
        rows = [FileRow(p, etag, 5, "queued") for p in sorted(paths)]
        self.ledger.resolve_want(job_id, want, rows)
        self.wants[job_id][want] = True
        for row in rows:
            self.files[job_id].setdefault(row.path, row)

    @rule(blob=blobs)
    def set_blob(self, blob: Blob) -> None:
        self.ledger.set_blob(blob)
        old = self.blobs.get(blob.etag)
        if old is None or old.plan != blob.plan:
            self.chunks[blob.etag] = split(*blob.plan)
        self.blobs[blob.etag] = blob

    @rule(etag=etags)
    def forget_blob(self, etag: str) -> None:
        self.ledger.forget_blob(etag)
        self.blobs.pop(etag, None)
        self.chunks.pop(etag, None)

    @precondition(lambda self: any(self.chunks.values()))
    @rule(data=st.data(), suspicion=st.integers(0, 9), digest=st.binary(min_size=16, max_size=32))
    def record(self, data: st.DataObject, suspicion: int, digest: bytes) -> None:
        etag = data.draw(st.sampled_from(sorted(e for e, c in self.chunks.items() if c)))
        chunks = self.chunks[etag]
        some = data.draw(st.sets(st.sampled_from(range(len(chunks)))))
        for i in some:
            c = chunks[i]
            c.durable_bytes = data.draw(st.integers(0, c.size))
            c.done, c.suspicion, c.digest = c.durable_bytes == c.size, suspicion, digest
        self.ledger.record(etag, [chunks[i] for i in some])

    @precondition(lambda self: any(self.chunks.values()))
    @rule(data=st.data())
    def record_what_cannot_be(self, data: st.DataObject) -> None:
        """All or nothing."""
        etag = data.draw(st.sampled_from(sorted(e for e, c in self.chunks.items() if c)))
        good = replace(self.chunks[etag][0], durable_bytes=1, digest=b"new", suspicion=99)
        bad = replace(good, index=good.index + 1, durable_bytes=None)  # type: ignore[arg-type]
        with pytest.raises(sqlite3.IntegrityError):
            self.ledger.record(etag, [good, bad])

    @rule(path=st.sampled_from(["/f", "/g"]), facts=st.tuples(*[st.integers(0, 9)] * 3))
    def check(self, path: str, facts: tuple[int, int, int]) -> None:
        self.ledger.set_checked(path, *facts)
        self.checked[path] = facts

    @rule(path=st.sampled_from(["/f", "/g"]))
    def uncheck(self, path: str) -> None:
        self.ledger.forget_checked(path)
        self.checked.pop(path, None)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        rows = {j.id: replace(j, created_s=0.0) for j in self.ledger.jobs()}
        assert rows == self.jobs
        for job_id in self.jobs:
            known = sorted(self.files[job_id].values(), key=lambda f: f.path)
            assert self.ledger.files(job_id) == known
            for resolved in (False, True):
                there = {w for w, r in self.wants[job_id].items() if r == resolved}
                assert set(self.ledger.wants(job_id, resolved=resolved)) == there
        for etag in ("e1", "e2"):
            assert self.ledger.blob(etag) == self.blobs.get(etag)
            assert self.ledger.chunks(etag) == self.chunks.get(etag, [])
        for path in ("/f", "/g"):
            facts = self.checked.get(path)
            assert facts is None or self.ledger.is_checked(path, *facts)
            assert not self.ledger.is_checked(path, 99, 99, 99)


LedgerMachine.TestCase.settings = SETTINGS
test_any_sequence = LedgerMachine.TestCase
"""Collected by pytest."""


@settings(derandomize=True, deadline=None, database=None, max_examples=20)
@given(st.sampled_from([1, 2]), st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=32))))
def test_migrations_keep_every_chunk(version: int, durable: list[tuple[int, bytes]]) -> None:
    """Whatever an old ledger held of chunks, the new one holds."""
    old = (Path(__file__).parents[1] / "fakes" / "ledgers" / f"version_{version}.sql").read_text()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ledger.db"
        with closing(sqlite3.connect(path)) as db:
            stamp = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
            db.executescript(f"{old}; {stamp}")
            size = 300 * len(durable)
            db.execute("INSERT INTO blobs VALUES ('e', ?, 300, 'boot', 7, 8)", (size,))
            rows = [(i, n, digest, n == 300, i % 3) for i, (n, digest) in enumerate(durable)]
            db.executemany("INSERT INTO chunks VALUES ('e', ?, ?, ?, ?, ?)", rows)
            db.commit()
        with closing(Ledger(path)) as ledger:
            found = ledger.chunks("e")
            assert ledger.blob("e") == Blob("e", size, 300, "boot", 7, 8)
        kept = [(c.index, c.durable_bytes, c.digest, c.done, c.suspicion) for c in found]
        assert kept == rows
        with closing(open_ledger(path)) as db:
            assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
