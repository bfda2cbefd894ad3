"""What stands beside recorded sound when the disk is full: whole lines, and mended later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moshid.settings import Settings
from moshid.talk.recording import mend_all
from tests.fakes.little_room import room_for
from tests.unit import test_recording
from tests.unit.test_recording import begun, one, word, written

settings = test_recording.settings


@pytest.mark.asyncio
async def test_what_finds_no_room_at_the_start_is_finished_at_another(
    tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "r"
    recording, _path = await begun(folder, settings)
    await written(recording, word(10, " Well"))
    with room_for(44):  # for the WAV's header, and for no captions
        assert await mend_all(settings) == 0
    assert len(list(settings.recordings.iterdir())) == 1, "there may be room again"
    assert "Well" not in one(folder, ".vtt").read_text()
    assert list(folder.glob("*.part")) == []
    assert await mend_all(settings) == 1
    assert "<v Moshi>Well" in one(folder, ".vtt").read_text()
    assert json.loads(one(folder, ".json").read_text())["seconds"] == 2.0
    assert list(settings.recordings.iterdir()) == []


@pytest.mark.asyncio
async def test_a_word_that_finds_no_room_spoils_no_other(
    tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "r"
    recording, _path = await begun(folder, settings)
    await written(recording, word(10, " one"))
    size = one(folder, ".jsonl").stat().st_size
    with room_for(size + 10):
        await written(recording, word(20, " two"))
    assert one(folder, ".jsonl").stat().st_size == size
    await written(recording, word(30, " three"))
    lines = one(folder, ".jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == [" one", " three"]
    await mend_all(settings)
    assert "<v Moshi>one\n" in one(folder, ".vtt").read_text()
