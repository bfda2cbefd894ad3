"""Jobs that are over are remembered for a while only; what could still be of use is not lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moshid.downloads.history import KEPT
from moshid.downloads.ledger import Counters, JobRow, Ledger, Want
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running
from tests.fakes.repos import REPO
from tests.fakes.url_jobs import FILE, RIGHT, place
from tests.fakes.web_files import WebFiles

pytestmark = pytest.mark.asyncio

NOBODY = "http://127.0.0.1:9"
OVER = (JobState.DONE, JobState.CANCELLED, JobState.FAILED)


def remember(home: Path, count: int) -> dict[str, JobRow]:
    """A ledger of jobs that are over, and before them of three that are not to be forgotten."""
    home.mkdir(parents=True)
    row = JobRow("", NOBODY, REPO, "main", None, "auto", None, None, "done")
    kept = {
        "begun": replace(row, state="failed", bytes_fetched=9),
        "paused": replace(row, state="paused"),
        "pinned": row,
    }
    over = {f"a{n:07}": replace(row, state=OVER[n % len(OVER)]) for n in range(count)}
    ledger = Ledger(home / "ledger.db")
    for number, (name, job) in enumerate((kept | over).items()):
        ledger.add_job(replace(job, id=name, commit_hash=f"{number:040}"))
        ledger.add_ref(name, f"{number:040}" if name == "pinned" else "main")
        ledger.count(Counters(name, job.bytes_fetched, 0, 0, 0))
        ledger.add_want(name, Want("", ("x.bin",)))
        ledger.set_state(name, job.state, None)
    ledger.close()
    (home / "tallies").mkdir()
    for name in over:
        (home / "tallies" / name).touch()
    return over


async def test_the_last_of_the_jobs_that_are_over_are_remembered(tmp_path: Path) -> None:
    home, bus = tmp_path / "home", Bus()
    over = list(remember(home, KEPT + 30))
    with WebFiles(FILE) as web:
        async with running(make_service(home, NOBODY, tmp_path / "cache", bus=bus)) as service:
            assert [job.id for job in service.list()] == ["begun", "paused", "pinned", *over[30:]]
            assert {p.name for p in (home / "tallies").iterdir()} == set(over[30:])
            job, _ = await service.urls.start(web.url(), RIGHT, str(place(tmp_path)))
            assert (await service.wait(job.id)).state is JobState.DONE
            ids = [job.id for job in service.list()]
            assert ids == ["begun", "paused", "pinned", *over[30:], job.id], "room for one was left"
            again = tmp_path / "out" / "again.bin"
            await service.urls.start(web.url(), RIGHT, str(again))
            assert over[30] not in [job.id for job in service.list()]
        async with running(make_service(home, NOBODY, tmp_path / "cache")) as service:
            assert over[31] in [job.id for job in service.list()]
    assert place(tmp_path).read_bytes() == FILE
