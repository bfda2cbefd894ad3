"""The questions before a job: a few at a time, and the first no ends them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from moshid.downloads.probe import NAMED_MAX, QUESTIONS_AT_ONCE, check_named
from moshid.downloads.remote import Absent, Listing, RemoteFile
from moshid.errors import DownloadNotFound
from tests.unit.test_alternates import RIGHT, Told

pytestmark = pytest.mark.asyncio

COMMIT = "c" * 40


@dataclass
class Crowded(Told):
    """Answers nobody before a full crowd has asked; knows no file named ``none``."""

    crowd: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(QUESTIONS_AT_ONCE))

    async def head(self, _repo: str, _revision: str, path: str) -> RemoteFile | Absent:
        self.asked += 1
        if path == "none":
            return Absent(COMMIT)
        await self.crowd.wait()
        return RIGHT


async def test_named_files_are_asked_for_a_few_at_a_time() -> None:
    hub = Crowded()
    await check_named(hub, "org/x", COMMIT, [str(i) for i in range(3 * QUESTIONS_AT_ONCE)])
    assert hub.asked == 3 * QUESTIONS_AT_ONCE


async def test_a_file_that_is_not_there_is_named_and_the_others_are_left() -> None:
    hub, before = Crowded(), asyncio.all_tasks()
    with pytest.raises(DownloadNotFound, match="org/x has no none"):
        await check_named(hub, "org/x", COMMIT, ["a", "none", *map(str, range(50))])
    assert hub.asked <= 2 * QUESTIONS_AT_ONCE
    assert asyncio.all_tasks() == before


MANY = [f"f{i}" for i in range(3000)]


@dataclass
class Listed(Crowded):
    """Lists the many files, if it lists any."""

    lists: bool = True

    async def listing(self, _repo: str, revision: str) -> Listing:
        if not self.lists:
            raise DownloadNotFound("there is no listing")
        return Listing(revision, tuple(MANY))


async def test_many_named_files_are_one_question() -> None:
    """Nobody waits for thousands of answers before there is a job to be seen."""
    hub = Listed()
    await check_named(hub, "org/x", COMMIT, MANY)
    assert hub.asked == 0
    with pytest.raises(DownloadNotFound, match="org/x has no none"):
        await check_named(hub, "org/x", COMMIT, [*MANY, "none"])
    assert hub.asked == 1


async def test_of_many_without_a_listing_some_are_asked_for() -> None:
    hub = Listed(lists=False)
    await check_named(hub, "org/x", COMMIT, MANY)
    assert hub.asked == NAMED_MAX
