"""Files whose names a file system takes for one, as most Macs' do; this one is made up, since not
everybody has such a one."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from moshid.downloads.cache import Cache
from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from tests.fakes.downloads import PARTS, make_service, running
from tests.fakes.odd_hubs import Odd, OddHub, OddRepo
from tests.fakes.repos import REPO

pytestmark = pytest.mark.asyncio


def folded(name: str) -> str:
    """What it is compared by."""
    return unicodedata.normalize("NFC", name).casefold()


class Folding(Cache):
    """On a file system that keeps upper and lower case, and does not tell them apart."""

    def _entry(self, repo: str, commit: str, path: str) -> Path:
        at = self.snapshot(repo, commit)
        for name in super()._entry(repo, commit, path).relative_to(at).parts:
            there = sorted(at.iterdir()) if at.is_dir() else []
            at = next((t for t in there if folded(t.name) == folded(name)), at / name)
        return at


async def fetch(
    tmp_path: Path, files: dict[str, bytes], cache: type[Cache] = Folding
) -> tuple[Job, Job]:
    """A job for all of them, and the same asked for once more."""
    repo = OddRepo(Odd(), {"config.json": b"{}"} | files)
    parts = replace(PARTS, cache=cache)
    async with (
        OddHub({REPO: repo}) as hub,
        running(
            make_service(tmp_path / "home", hub.endpoint, tmp_path / "cache", parts=parts)
        ) as service,
    ):
        ended = []
        for _ in range(2):
            job, _joined = await service.start(REPO, files=list(files))
            ended.append(await service.wait(job.id))
    return ended[0], ended[1]


@pytest.mark.parametrize("content", [b"one", b"number two"])
@pytest.mark.parametrize(
    "names",
    [
        ("README.md", "readme.md"),
        ("Voices/a.bin", "voices/A.bin"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}.txt", "cafe\N{COMBINING ACUTE ACCENT}.txt"),
    ],
)
async def test_two_files_of_one_name_are_told(
    tmp_path: Path, names: tuple[str, str], content: bytes
) -> None:
    """Whether they are of one size or not: one would be shown with the other's content."""
    first, again = await fetch(tmp_path, {names[0]: b"two", names[1]: content})
    for job in (first, again):
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert "are one name in the Hugging Face cache" in job.error.message
        assert all(name in job.error.message for name in names)
        assert "--file" in job.error.hint
    assert first.bytes_fetched == again.bytes_fetched


async def test_two_files_of_one_content_may_be_one(tmp_path: Path) -> None:
    first, _again = await fetch(tmp_path, {"A.txt": b"same", "a.txt": b"same"})
    assert first.state is JobState.DONE


async def test_where_case_counts_both_are_there(tmp_path: Path) -> None:
    if _folds(tmp_path):
        pytest.skip("it does not here")
    first, _again = await fetch(tmp_path, {"A.txt": b"one", "a.txt": b"two"}, Cache)
    assert first.state is JobState.DONE


def _folds(folder: Path) -> bool:
    (folder / "x").touch()
    return (folder / "X").exists()
