"""How a job fetches, over what a later start says; and the names of jobs that are no more."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from moshid.downloads.engine import Engine
from moshid.downloads.entries import Entries
from moshid.downloads.ledger import JobRow, Ledger
from moshid.downloads.manner import AS_IT_IS, Manner
from moshid.events import Bus

ROW = JobRow("j1", "https://hub", "org/name", "main", None, "auto", 1 << 20, 7, "queued")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (AS_IT_IS, ("auto", 1 << 20, 7)),
        (Manner("robust"), ("robust", None, None)),
        (Manner("auto"), ("auto", None, None)),
        (Manner("robust", workers=3), ("robust", None, 3)),
        (Manner(workers=3), ("auto", 1 << 20, 3)),
        (Manner(chunk_bytes=5), ("auto", 5, 7)),
    ],
)
def test_what_is_named_counts_and_a_profile_brings_its_numbers(
    said: Manner, means: tuple[str, int | None, int | None]
) -> None:
    row = said.over(ROW)
    assert (row.profile, row.chunk_bytes, row.workers) == means
    assert replace(row, profile="auto", chunk_bytes=1 << 20, workers=7) == ROW


def test_the_ledger_keeps_the_manner_and_the_names_of_absorbed_jobs(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        for number in (1, 2, 3):
            ledger.add_job(replace(ROW, id=f"j{number}"))
        ledger.set_manner(replace(ROW, id="j2", profile="robust", chunk_bytes=None, workers=3))
        assert [(j.profile, j.workers) for j in ledger.jobs()] == [
            *(("auto", 7), ("robust", 3), ("auto", 7)),
        ]
        ledger.absorb_job("j2", "j1")
        ledger.absorb_job("j3", "j2")
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        assert ledger.absorbed() == {"j1": "j3", "j2": "j3"}


class NoLedger:
    """A ledger that takes everything and keeps nothing."""

    async def call(self, *_: object) -> None:
        """Done."""


@pytest.mark.asyncio
async def test_of_an_absorbed_job_nothing_is_heard_after_its_last_event() -> None:
    bus = Bus()
    entries = Entries(bus)
    engine = cast("Engine", SimpleNamespace(ledger=NoLedger()))
    older = await entries.create(engine, replace(ROW, id="old", commit_hash="c" * 40))
    newer = await entries.create(engine, replace(ROW, id="new"))
    events = bus.subscribe(["download"])
    waiting = asyncio.create_task(older.end())
    entries.pin(newer, "c" * 40)
    entries.tell(older)  # a tick of the task that is being cancelled
    entries.tell(newer)
    told = [(await events.take()).event.data for _ in range(len(events))]
    assert [data["job"]["id"] for data in told] == ["old", "new"]
    assert told[0]["absorbed_by"] == "new"
    newer.finished.set()
    assert await waiting is newer
    assert entries.get("old") is newer
    third = await entries.create(engine, replace(ROW, id="third"))
    entries.pin(third, "c" * 40)
    assert entries.get("old") is third
