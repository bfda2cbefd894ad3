"""The ledger: durable, versioned, refusing what is not its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshid.downloads import plan
from moshid.downloads.ledger import Blob, Counters, FileRow, JobRow, Ledger, Want
from moshid.downloads.ledger_file import APPLICATION_ID, MIGRATIONS, open_ledger, schema
from moshid.downloads.ledger_rebuild import mend
from moshid.downloads.ledger_thread import LedgerThread
from moshid.errors import LedgerBroken, LedgerTooNew

JOB = JobRow("j1", "https://hub", "org/name", "main", "c" * 40, "auto", None, None, "queued")
BLOB = Blob("e" * 64, 1000, 300, "boot", 1, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of this test lies."""
    return tmp_path / "ledger.db"


def pragma(path: Path, name: str) -> object:
    """A pragma's value, seen by another connection."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


def test_a_new_ledger_has_the_latest_version_and_is_durable(path: Path) -> None:
    with closing(open_ledger(path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert pragma(path, "user_version") == len(MIGRATIONS) + 1


def test_jobs_files_and_wants_come_back(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.add_job(JOB)
        want = Want("q4")
        assert ledger.add_want("j1", want)
        assert not ledger.add_want("j1", want)
        ledger.resolve_want("j1", want, [FileRow("a", "1" * 40, 5, "queued")])
        ledger.set_file_state("j1", "a", "done")
        assert ledger.add_want("j1", Want("", ("b", "a")))
        ledger.set_state("j1", "paused", '{"kind": "x"}')
        ledger.count(Counters("j1", 1, 2, 3, 4))
    with closing(Ledger(path)) as ledger:
        [job] = ledger.jobs()
        assert (job.id, job.state, job.error) == ("j1", "paused", '{"kind": "x"}')
        assert (job.bytes_fetched, job.bytes_rescued, job.chunks_corrupt, job.retries) == (
            (1, 2, 3, 4)
        )
        assert job.created_s > 0
        assert ledger.files("j1") == [FileRow("a", "1" * 40, 5, "done")]
        assert ledger.wants("j1", resolved=True) == [Want("q4")]
        assert ledger.wants("j1", resolved=False) == [Want("", ("a", "b"))]
        ledger.resolve_want("j1", Want("", ("a", "b")), [FileRow("a", "1" * 40, 5, "queued")])
        assert ledger.files("j1") == [FileRow("a", "1" * 40, 5, "done")]
        ledger.delete_job("j1")
        assert ledger.jobs() == []
        assert ledger.files("j1") == []


def test_one_job_a_commit(path: Path) -> None:
    unresolved = JobRow("j2", "https://hub", "org/name", "v1", None, "auto", None, None, "queued")
    with closing(Ledger(path)) as ledger:
        ledger.add_job(JOB)
        ledger.add_job(unresolved)
        assert ledger.set_commit("j2", "c" * 40) == "j1"
        assert ledger.set_commit("j2", "d" * 40) is None
        assert [j.commit_hash for j in ledger.jobs()] == ["c" * 40, "d" * 40]
        ledger.settle_commit("j2", "c" * 40)
        assert [(j.id, j.commit_hash) for j in ledger.jobs()] == [("j2", "c" * 40)]
        assert ledger.absorbed() == {"j1": "j2"}
        ledger.delete_job("j2")
        ledger.add_job(JOB)
        with pytest.raises(sqlite3.IntegrityError):
            ledger.add_job(JobRow(**{f: getattr(JOB, f) for f in JOB.__slots__} | {"id": "j3"}))


def test_a_digest_wanted_at_an_output_is_not_wanted_in_the_cache(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        for job in (JOB, replace(JOB, id="j2", endpoint="file:///out/f", repo="https://h/f")):
            ledger.add_job(job)
            ledger.add_want(job.id, Want("", ("f",)))
            ledger.resolve_want(job.id, Want("", ("f",)), [FileRow("f", job.id, 1, "queued")])
        assert ledger.etags_wanted_besides("") == {"j1"}


def test_chunks_come_back_as_they_were_recorded(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        assert ledger.chunks(BLOB.etag) == []
        ledger.set_blob(BLOB)
        chunks = ledger.chunks(BLOB.etag)
        assert chunks == plan.split(1000, 300)
        chunks[1].durable_bytes, chunks[1].digest, chunks[1].suspicion = 7, sha256().digest(), 2
        chunks[3].durable_bytes, chunks[3].digest, chunks[3].done = 100, b"d" * 32, True
        ledger.record(BLOB.etag, [chunks[1], chunks[3]])
    with closing(Ledger(path)) as ledger:
        assert ledger.chunks(BLOB.etag) == chunks
        moved = Blob(BLOB.etag, 1000, 300, "boot2", 3, 4)
        ledger.set_blob(moved)
        assert (ledger.blob(BLOB.etag), ledger.chunks(BLOB.etag)) == (moved, chunks)
        ledger.set_blob(Blob(BLOB.etag, 1000, 500, "boot2", 3, 4))
        assert ledger.chunks(BLOB.etag) == plan.split(1000, 500)
        ledger.forget_blob(BLOB.etag)
        assert ledger.blob(BLOB.etag) is None


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(200, 900), st.data())
def test_any_progress_comes_back(size: int, chunk_bytes: int, data: st.DataObject) -> None:
    with closing(Ledger(Path(":memory:"))) as ledger:
        ledger.set_blob(Blob("e", size, chunk_bytes, "boot", 1, 2))
        chunks = ledger.chunks("e")
        for chunk in chunks:
            chunk.durable_bytes = data.draw(st.integers(0, chunk.size))
            chunk.done = chunk.durable_bytes == chunk.size
            chunk.digest = data.draw(st.binary(min_size=32, max_size=32))
        ledger.record("e", chunks)
        assert ledger.chunks("e") == chunks


def test_a_record_is_all_or_nothing(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.add_job(JOB)
        ledger.set_blob(BLOB)
        good, bad = plan.split(1000, 300)[:2]
        good.done, bad.durable_bytes = True, None  # type: ignore[assignment]
        with pytest.raises(sqlite3.IntegrityError):
            ledger.record(BLOB.etag, [good, bad], [Counters("j1", 9, 9, 9, 9)])
        assert ledger.chunks(BLOB.etag) == plan.split(1000, 300)
        assert ledger.jobs()[0].bytes_fetched == 0


def test_a_checked_file_is_known_by_its_identity(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.set_checked("/f", 1, 2, 3)
        assert ledger.is_checked("/f", 1, 2, 3)
        assert not ledger.is_checked("/f", 1, 9, 3)
        ledger.forget_checked("/f")
        assert not ledger.is_checked("/f", 1, 2, 3)


def test_migrations_bring_an_old_ledger_up_one_by_one(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.add_job(JOB)
    more = ["ALTER TABLE jobs ADD COLUMN later INTEGER NOT NULL DEFAULT 5", "DROP TABLE meta"]
    steps = [*MIGRATIONS, *more]
    with closing(open_ledger(path, migrations=steps)) as db:
        assert db.execute("SELECT id, later FROM jobs").fetchall() == [("j1", 5)]
    assert pragma(path, "user_version") == len(steps) + 1


@pytest.mark.parametrize("version", [1, 2])
def test_a_ledger_of_an_earlier_version_becomes_one_of_the_latest(
    path: Path, tmp_path: Path, version: int
) -> None:
    old_schema = Path(__file__).parents[1] / "fakes" / "ledgers" / f"version_{version}.sql"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"{old_schema.read_text()}; PRAGMA application_id = {APPLICATION_ID};"
            f" PRAGMA user_version = {version};"
            " INSERT INTO jobs (id, endpoint, repo, revision, commit_hash, profile, state,"
            " created_s) VALUES ('j1', 'https://hub', 'o/n', 'main', 'c', 'auto', 'paused', 5.0);"
            " INSERT INTO blobs VALUES ('e1', 1000, 300, 'boot', 7, 8);"
            " INSERT INTO chunks VALUES ('e1', 0, 300, x'aa', 1, 2);"
        )
        if version > 1:
            db.execute("INSERT INTO refs VALUES ('j1', 'main', 5.0)")
        db.commit()
    with closing(Ledger(path)) as ledger:
        job = ledger.jobs()[0]
        assert (job.id, job.priority, job.limit_bps, job.created_s) == ("j1", 0, None, 5.0)
        assert ledger.refs("j1") == ["main"]
        assert ledger.blob("e1") == Blob("e1", 1000, 300, "boot", 7, 8, "sha256")
        assert ledger.chunks("e1")[0].digest == b"\xaa"
    with closing(open_ledger(tmp_path / "fresh.db")):
        pass
    assert columns(path) == columns(tmp_path / "fresh.db")


def columns(path: Path) -> list[tuple[str, list[tuple[object, ...]]]]:
    """Every table's columns, as SQLite describes them."""
    with closing(sqlite3.connect(path)) as db:
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        return [(n, db.execute(f"PRAGMA table_info({n})").fetchall()) for (n,) in names.fetchall()]


def test_an_absorbed_job_leaves_what_it_was_to_do(path: Path) -> None:
    other = replace(JOB, id="j2", commit_hash=None, revision="v1")
    with closing(Ledger(path)) as ledger:
        for job in (JOB, other):
            ledger.add_job(job)
            ledger.add_ref(job.id, job.revision)
            ledger.add_want(job.id, Want("", (job.id,)))
        ledger.absorb_job("j2", "j1")
        assert [j.id for j in ledger.jobs()] == ["j2"]
        assert set(ledger.refs("j2")) == {"main", "v1"}
        wants = ledger.wants("j2", resolved=False)
    assert wants == [Want("", ("j1",)), Want("", ("j2",))]


def test_a_failed_migration_leaves_the_old_version(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.add_job(JOB)
    bad = "DROP TABLE checked; DROP TABLE no_such_table"
    with pytest.raises(LedgerBroken):
        open_ledger(path, migrations=[*MIGRATIONS, bad])
    assert pragma(path, "user_version") == len(MIGRATIONS) + 1
    with closing(Ledger(path)) as ledger:
        ledger.set_checked("/f", 1, 2, 3)


def test_a_newer_ledger_is_refused_and_untouched(path: Path) -> None:
    with closing(open_ledger(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew, match="99"):
        open_ledger(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("garbage", [b"no database, but longer than a header" * 50, b"x"])
def test_garbage_is_refused_and_left_alone(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    with pytest.raises(LedgerBroken):
        open_ledger(path)
    assert path.read_bytes() == garbage


def test_a_damaged_page_is_noticed(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.add_job(JOB)
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    path.write_bytes(raw)
    with pytest.raises(LedgerBroken):
        open_ledger(path)


def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()
    with pytest.raises(LedgerBroken, match="no download ledger"):
        open_ledger(path)


@pytest.mark.parametrize(
    ("make", "is_told"), [(Path.mkdir, "is a folder, and no file"), (os.mkfifo, "and no file")]
)
def test_what_is_no_file_is_to_be_moved_away(
    path: Path, make: Callable[[Path], None], is_told: str
) -> None:
    make(path)
    with pytest.raises(LedgerBroken, match=is_told) as caught:
        mend(path)
    assert "Move it away" in caught.value.hint


def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    path.touch()
    with closing(open_ledger(path)):
        pass
    assert pragma(path, "user_version") == len(MIGRATIONS) + 1


def test_the_schema_is_package_data() -> None:
    assert "CREATE TABLE chunks" in schema()


def _block(_ledger: Ledger, busy: threading.Event, go_on: threading.Event) -> None:
    busy.set()
    go_on.wait()


@pytest.mark.asyncio
async def test_calls_from_the_loop_are_done_in_order(path: Path) -> None:
    thread = LedgerThread()
    with pytest.raises(RuntimeError):
        await thread.call(Ledger.jobs)
    await thread.open(path)
    calls = [thread.call(Ledger.set_meta, "k", str(i)) for i in range(20)]
    await asyncio.gather(*calls)
    assert await thread.call(Ledger.meta, "k") == "19"
    assert await thread.call(Ledger.meta, "none") is None
    busy, go_on = threading.Event(), threading.Event()
    blocked = asyncio.create_task(thread.call(_block, busy, go_on))
    await asyncio.to_thread(busy.wait)
    given_up = asyncio.create_task(thread.call(Ledger.set_meta, "k", "given up"))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    go_on.set()
    await blocked
    assert await thread.call(Ledger.meta, "k") == "given up", "though nobody waited for it"
    await asyncio.to_thread(thread.close)


def _break(_ledger: Ledger, busy: threading.Event, go_on: threading.Event) -> None:
    _block(_ledger, busy, go_on)
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.asyncio
async def test_what_fails_though_nobody_waits_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    thread = LedgerThread()
    await thread.open(path)
    busy, go_on = threading.Event(), threading.Event()
    given_up = asyncio.create_task(thread.call(_break, busy, go_on))
    await asyncio.to_thread(busy.wait)
    given_up.cancel()
    await asyncio.wait({given_up})
    go_on.set()
    await thread.call(Ledger.meta, "k")
    told = [r for r in caplog.records if r.name.startswith("moshid.")]
    assert [r.__dict__["why"] for r in told] == ["disk I/O error"]
    await asyncio.to_thread(thread.close)
