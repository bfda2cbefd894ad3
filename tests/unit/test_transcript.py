"""A talk's transcript: whole lines on a full disk, and which of the old ones go."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from moshid.talk.transcript import Transcript, spoken
from tests.fakes.little_room import room_for

pytestmark = pytest.mark.asyncio


def word(frame: int, piece: str) -> dict[str, Any]:
    return spoken("s1", {"frame": frame, "piece": piece})


async def written(transcript: Transcript, *words: dict[str, Any], keep: int = 9) -> None:
    for each in words:
        transcript.add(each)
    transcript.finish()
    await transcript.write(keep=keep)


async def test_while_the_disk_is_full_words_are_lost_and_those_after_it_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transcript = Transcript(tmp_path, "s1")
    await written(transcript, word(10, " one"))
    assert transcript.path is not None
    size = transcript.path.stat().st_size
    with room_for(size + 10), caplog.at_level(logging.WARNING):
        await written(transcript, word(20, " two"), word(30, " three"))
    assert len([r for r in caplog.records if "cannot be kept" in r.message]) == 1
    assert transcript.path.stat().st_size == size, "no half of a line"
    await written(transcript, word(40, " four"))
    lines = transcript.path.read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [" one", " four"]


async def test_a_file_that_is_removed_in_the_talk_is_begun_anew(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path, "s1")
    await written(transcript, word(10, " one"))
    assert transcript.path is not None
    transcript.path.unlink()
    await written(transcript, word(20, " two"))
    assert json.loads(transcript.path.read_text())["text"] == " two"


@pytest.mark.parametrize(("keep", "left"), [(0, 0), (1, 1), (2, 2), (9, 4)])
async def test_a_clock_that_was_set_back_costs_no_new_transcript(
    tmp_path: Path, keep: int, left: int
) -> None:
    """The others are of a year to come, so the new one is the first by its name."""
    others = [tmp_path / f"2999010{day}T000000-x.jsonl" for day in (1, 2, 3)]
    for path in others:
        path.write_text("{}\n")
    transcript = Transcript(tmp_path, "s1")
    await written(transcript, word(10, " one"), keep=keep)
    assert transcript.path is not None
    found = await asyncio.to_thread(lambda: sorted(tmp_path.iterdir()))
    assert found == sorted([transcript.path, *others[len(others) - left + 1 :]] if left else [])
