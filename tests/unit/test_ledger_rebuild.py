"""A damaged ledger of ours is kept, and rebuilt from what can be read of it, or from its copy."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from moshid.downloads.ledger import Blob, Counters, FileRow, JobRow, Ledger, Want
from moshid.downloads.ledger_copy import copy_of, read_copy
from moshid.downloads.ledger_file import APPLICATION_ID, open_ledger
from moshid.downloads.ledger_rebuild import mend
from moshid.downloads.ledger_salvage import is_sane
from moshid.downloads.ledger_thread import LedgerThread
from moshid.errors import LedgerBroken, LedgerTooNew
from tests.fakes.damage import DAMAGES

JOB = JobRow("j1", "https://hub", "org/name", "main", "c" * 40, "auto", None, None, "queued")
FILE = FileRow("a.bin", "1" * 64, 5, "queued")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of this test lies."""
    return tmp_path / "ledger.db"


def fill(ledger: Ledger, jobs: int = 1) -> None:
    """Jobs with all that belongs to them."""
    for i in range(1, jobs + 1):
        job = replace(JOB, id=f"j{i}", repo=f"org/{i}")
        ledger.add_job(job)
        ledger.add_ref(job.id, "main")
        ledger.add_sources(job.id, ["/from"])
        ledger.add_want(job.id, Want("q4"))
        ledger.resolve_want(job.id, Want("q4"), [FILE])
    ledger.set_blob(Blob(FILE.etag, 5, 5, "boot", 1, 2))
    ledger.set_checked("/f", 1, 2, 3)
    ledger.set_meta("mount:/", "/")


def files_beside(path: Path) -> list[str]:
    """What is in the folder besides the ledger and its copy."""
    names = {p.name for p in path.parent.iterdir()} - {path.name, copy_of(path).name}
    return sorted(n for n in names if not n.endswith(("-wal", "-shm")))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_kept_and_its_jobs_live_on(path: Path, damage: str) -> None:
    with closing(Ledger(path)) as ledger:
        fill(ledger)
        ledger.copy.save()
    DAMAGES[damage](path)
    before = path.read_bytes()
    rebuilt = mend(path)
    assert rebuilt is not None
    assert rebuilt.jobs == 1
    assert rebuilt.kept.read_bytes() == before
    assert files_beside(path) == [rebuilt.kept.name]
    assert rebuilt.kept.name.startswith("ledger.db.broken-2")
    with closing(Ledger(path)) as ledger:
        [job] = ledger.jobs()
        assert (job.id, job.state) == ("j1", "queued")
        assert ledger.files("j1") == [FILE]
        assert ledger.wants("j1", resolved=True) == [Want("q4")]
        assert (ledger.refs("j1"), ledger.sources("j1")) == (["main"], ["/from"])
        assert ledger.blob(FILE.etag) is None, "what it says of bytes on the disk is not believed"
    assert mend(path) is None, "once is enough"


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_copy_what_can_be_read_is_saved(path: Path, damage: str) -> None:
    with closing(Ledger(path)) as ledger:
        fill(ledger)
    DAMAGES[damage](path)
    rebuilt = mend(path)
    if damage == "emptied":
        assert rebuilt is None
        return
    assert rebuilt is not None
    with closing(Ledger(path)) as ledger:
        assert len(ledger.jobs()) == rebuilt.jobs == (damage == "bad_header")
        assert ledger.is_checked("/f", 1, 2, 3) == (damage == "bad_header")


def test_rows_around_a_bad_page_are_saved_and_the_copy_fills_the_gap(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        fill(ledger, jobs=300)
        [root] = ledger._db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'jobs'")
    with closing(sqlite3.connect(path)) as db:
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
        pages = db.execute("SELECT pageno FROM dbstat WHERE name = 'jobs' AND pagetype = 'leaf'")
        leaves = [p for (p,) in pages if p != root[0]]
    bad = leaves[len(leaves) // 2]
    raw = bytearray(path.read_bytes())
    raw[(bad - 1) * page_bytes : bad * page_bytes] = b"\xff" * page_bytes
    path.write_bytes(raw)
    rebuilt = mend(path)
    assert rebuilt is not None
    assert 200 < rebuilt.jobs < 300
    copy_of(path).write_text(json.dumps(whole_copy(path.with_name("other.db"), jobs=300)))
    path.write_bytes(raw)
    rebuilt = mend(path)
    assert rebuilt is not None
    assert rebuilt.jobs == 300


def whole_copy(path: Path, jobs: int) -> object:
    """The copy of a ledger with so many jobs."""
    with closing(Ledger(path)) as ledger:
        fill(ledger, jobs)
        ledger.copy.save()
    return json.loads(copy_of(path).read_text())


def test_the_log_of_a_killed_daemon_goes_aside_with_its_ledger(path: Path) -> None:
    """Left where it is, SQLite might play it into the new ledger."""
    with closing(Ledger(path)) as ledger:
        fill(ledger)
    with closing(Ledger(path)) as live:
        live.set_state("j1", "paused", None)
        live.copy.save()
        pieces = {p: p.read_bytes() for p in path.parent.iterdir()}
    for piece, data in pieces.items():
        piece.write_bytes(data)
    log = pieces[path.with_name("ledger.db-wal")]
    DAMAGES["garbage"](path)
    rebuilt = mend(path)
    assert rebuilt is not None
    assert rebuilt.kept.with_name(f"{rebuilt.kept.name}-wal").read_bytes() == log
    assert jobs_in(path) == 1


def jobs_in(path: Path) -> int:
    """How many jobs a ledger has."""
    with closing(Ledger(path)) as ledger:
        return len(ledger.jobs())


def test_another_programs_database_and_a_newer_one_are_not_touched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.execute("PRAGMA application_id = 7")
    before = path.read_bytes()
    with pytest.raises(LedgerBroken, match="no download ledger"):
        mend(path)
    torn = before[:4096] + b"\xff" * (len(before) - 4096)
    path.write_bytes(torn)
    with pytest.raises(LedgerBroken):
        mend(path)
    assert path.read_bytes() == torn
    path.unlink()
    with closing(open_ledger(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew):
        mend(path)
    assert path.read_bytes() == before
    assert files_beside(path) == []


def test_a_kill_in_the_middle_of_a_rebuild_is_made_up_for(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        fill(ledger)
        ledger.copy.save()
    DAMAGES["garbage"](path)
    path.with_name("ledger.db.new").write_bytes(b"half of a new one")
    path.with_name("ledger.db.new-wal").write_bytes(b"half of a new one")
    first = mend(path)
    DAMAGES["torn_pages"](path)
    second = mend(path)
    assert first is not None
    assert second is not None
    assert first.kept != second.kept
    assert files_beside(path) == sorted([first.kept.name, second.kept.name])
    assert jobs_in(path) == 1


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("jobs", {"id": "j", "endpoint": "e", "repo": "r", "state": "odd", "error": None}),
        ("jobs", {"id": "j", "endpoint": "e", "repo": "r", "state": "done", "error": "{}"}),
        ("jobs", {"id": "j"}),
        ("wants", {"files": "no json"}),
        ("wants", {"files": "[5]"}),
        ("files", {"state": "queued", "etag": "zz", "size": 1}),
        ("files", {"state": "queued", "etag": "1" * 64, "size": -1}),
    ],
)
def test_rows_that_make_no_sense_are_left_behind(table: str, row: dict[str, object]) -> None:
    assert not is_sane(table, row)


def test_the_copy_follows_what_changes_and_not_the_bytes(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        fill(ledger)
        ledger.copy.save()
        chunks = ledger.chunks(FILE.etag)
        ledger.record(FILE.etag, chunks, [Counters("j1", 1, 2, 3, 4)])
        assert not ledger.copy.stale
        ledger.set_state("j1", "paused", None)
        assert ledger.copy.stale
        ledger.copy.save()
        assert read_copy(path)["jobs"][0]["state"] == "paused"
        ledger.delete_job("j1")
        assert ledger.copy.stale
        ledger.copy.save()
        assert read_copy(path) == {t: [] for t in ("jobs", "wants", "refs", "files", "sources")}
    assert copy_of(path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "tables": {"jobs": 5}}', "\0"])
def test_a_copy_that_cannot_be_read_is_none(path: Path, text: str) -> None:
    copy_of(path).write_text(text)
    assert read_copy(path) == {}


@pytest.mark.asyncio
async def test_the_thread_mends_opens_and_keeps_the_copy(path: Path) -> None:
    thread = LedgerThread()
    await thread.open(path)
    assert thread.rebuilt is None
    await thread.call(Ledger.add_job, JOB)
    await asyncio.to_thread(thread.close)
    assert [j["id"] for j in read_copy(path)["jobs"]] == ["j1"]
    DAMAGES["garbage"](path)
    thread = LedgerThread()
    await thread.open(path)
    assert thread.rebuilt is not None
    assert [j.id for j in await thread.call(Ledger.jobs)] == ["j1"]
    await asyncio.to_thread(thread.close)


@pytest.mark.asyncio
async def test_what_sqlite_cannot_do_is_told_clearly(path: Path) -> None:
    def fails(_ledger: Ledger) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    thread = LedgerThread()
    await thread.open(path)
    with pytest.raises(LedgerBroken, match="malformed") as told:
        await thread.call(fails)
    assert "again" in told.value.hint
    await asyncio.to_thread(thread.close)


def test_application_id_is_where_the_damage_looks(path: Path) -> None:
    """``bad_header`` hits what it means to."""
    open_ledger(path).close()
    assert int.from_bytes(path.read_bytes()[68:72], "big") == APPLICATION_ID
