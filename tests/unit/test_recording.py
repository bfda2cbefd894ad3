"""What stands beside a recorded talk: transcript, captions, facts, and the mending after a kill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from moshid import home
from moshid.audio import wav
from moshid.errors import RecordingFailed
from moshid.events import Bus
from moshid.settings import Settings
from moshid.talk.recording import Recording, mend_all
from moshid.talk.request import TalkRequest
from moshid.talk.service import TalkService
from tests.fakes.talk_parts import FakeParts, talking, until


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path / "home", socket=tmp_path / "s")
    home.prepare(made)
    return made


def word(frame: int, text: str) -> dict[str, Any]:
    return {"session": "s1", "frame": frame, "t_s": round(frame * 0.08, 2), "text": text}


def killed_sound(path: Path, frames: int) -> None:
    """What the audio worker leaves of so many frames when it is killed: its header is behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = wav.WavWriter(path)
    writer.write(bytes(4 * 1920 * frames))
    writer.close()
    data = path.read_bytes()
    path.write_bytes(data[:4] + (36).to_bytes(4, "little") + data[8:40] + bytes(4) + data[44:])


def one(folder: Path, suffix: str) -> Path:
    (path,) = folder.glob(f"*{suffix}")
    return path


async def begun(folder: Path, settings: Settings) -> tuple[Recording, Path]:
    recording = Recording(str(folder), "s1", settings)
    await recording.announce()
    path = Path(recording.to_worker()["path"])
    killed_sound(path, 25)
    await recording.begin({"session": "s1", "model": "demo", "seed": 7}, delay_frames=2)
    return recording, path


async def written(recording: Recording, *words: dict[str, Any]) -> None:
    writing = asyncio.create_task(recording.write())
    for each in words:
        recording.add(each)
    recording.finish()
    await writing


@pytest.mark.asyncio
async def test_transcript_captions_and_facts_stand_beside_the_sound(
    tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "r"
    recording, path = await begun(folder, settings)
    assert list(settings.recordings.iterdir()) == [settings.recordings / "s1.json"]
    await written(recording, word(10, " Hi."), word(20, " Well"))
    await recording.close({"state": "stopped", "frames": 25}, cut_off=False)
    assert {p.name for p in folder.iterdir()} == {
        path.with_suffix(suffix).name for suffix in (".wav", ".json", ".jsonl", ".vtt")
    }
    assert path.name.endswith("-s1.wav")
    lines = [json.loads(line) for line in one(folder, ".jsonl").read_text().splitlines()]
    # Heard when the frame is complete, and after the two that the model is behind.
    assert lines[0] == {"frame": 10, "t_s": 0.8, "heard_s": 1.04, "text": " Hi."}
    captions = one(folder, ".vtt").read_text()
    assert captions.startswith("WEBVTT\n\n00:00:01.040 --> ")
    assert "<v Moshi>Well" in captions, "the last cue is written at the end"
    facts = json.loads(one(folder, ".json").read_text())
    assert (facts["model"], facts["seed"], facts["status"]["frames"]) == ("demo", 7, 25)
    assert facts["ended_at"] >= facts["started_at"]
    assert facts["channels"]["left"].startswith("user")
    assert "mended" not in facts
    assert list(settings.recordings.iterdir()) == []
    assert all(p.stat().st_mode & 0o077 == 0 for p in folder.iterdir()), "nobody else's"


@pytest.mark.asyncio
async def test_what_a_killed_daemon_left_is_finished_at_the_next_start(
    tmp_path: Path, settings: Settings
) -> None:
    folder = tmp_path / "r"
    recording, path = await begun(folder, settings)
    await written(recording, word(10, " Hi."), word(20, " Well"))
    whole_size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\1\2\3")  # and there it was killed
    with one(folder, ".jsonl").open("a") as file:
        file.write('{"frame": 21, "te')
    assert "Well" not in one(folder, ".vtt").read_text()
    assert await mend_all(settings) == 1
    assert path.stat().st_size == whole_size
    assert path.read_bytes()[40:44] == (whole_size - 44).to_bytes(4, "little")
    assert "<v Moshi>Well" in one(folder, ".vtt").read_text()
    facts = json.loads(one(folder, ".json").read_text())
    assert (facts["model"], facts["seconds"]) == ("demo", 2.0)
    assert "cut off" in facts["mended"]
    assert one(folder, ".jsonl").read_text().endswith(' Well"}\n'), "no half line"
    assert list(settings.recordings.iterdir()) == []
    assert await mend_all(settings) == 0


@pytest.mark.asyncio
async def test_notes_that_lead_nowhere(tmp_path: Path, settings: Settings) -> None:
    away = Recording(str(tmp_path / "volume" / "r"), "away", settings)
    await away.announce()
    (tmp_path / "r").mkdir()
    deleted = Recording(str(tmp_path / "r"), "deleted", settings)
    await deleted.announce()
    (settings.recordings / "torn.json").write_text('{"ba')
    (settings.recordings / "odd.json").write_text("[]")
    assert await mend_all(settings) == 0
    left = [note.name for note in settings.recordings.iterdir()]
    assert left == ["away.json"], "its volume may come back"


@pytest.mark.asyncio
async def test_a_folder_that_nobody_may_look_into_ends_no_daemon(settings: Settings) -> None:
    """A name that is too long stands for a folder without permission: this may run as root."""
    recording = Recording("/tmp/" + "n" * 300, "s1", settings)
    await recording.announce()
    assert await mend_all(settings) == 0, "the daemon starts all the same"
    await recording.close({"state": "failed"}, cut_off=False)
    assert list(settings.recordings.iterdir()) == []


@pytest.mark.asyncio
async def test_one_that_was_stopped_before_it_began_leaves_nothing(
    tmp_path: Path, settings: Settings
) -> None:
    recording = Recording(str(tmp_path / "r"), "s1", settings)
    await recording.announce()
    killed_sound(Path(recording.to_worker()["path"]), 2)
    await recording.close({"state": "stopped"}, cut_off=False)
    assert list((tmp_path / "r").iterdir()) == []
    assert list(settings.recordings.iterdir()) == []


@pytest.mark.asyncio
async def test_one_that_was_stopped_as_it_began_is_whole(
    tmp_path: Path, settings: Settings
) -> None:
    recording, path = await begun(tmp_path / "r", settings)
    for suffix in (".vtt", ".jsonl"):
        path.with_suffix(suffix).unlink()
    await recording.close({"state": "stopped"}, cut_off=False)
    assert path.with_suffix(".vtt").read_text() == "WEBVTT\n\n"
    assert path.with_suffix(".jsonl").read_text() == ""


@pytest.mark.asyncio
async def test_damaged_lines_and_facts_are_left_out(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "r"
    recording, _path = await begun(folder, settings)
    await written(recording, word(10, " Hi\u2028you."), word(20, " Well"))
    with one(folder, ".jsonl").open("a") as file:
        file.write('[]\n7\n{"heard_s": null, "text": "x"}\n\0\0\0')
    one(folder, ".json").write_text("7")
    assert await mend_all(settings) == 1
    captions = one(folder, ".vtt").read_text()
    assert "<v Moshi>Hi you.\n" in captions
    assert "<v Moshi>Well\n" in captions
    assert json.loads(one(folder, ".json").read_text())["seconds"] == 2.0


@pytest.mark.asyncio
async def test_a_disk_that_fails_costs_the_recording_not_the_talk(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "r").write_text("in the way")
    recording = Recording(str(tmp_path / "r"), "s1", settings)
    await recording.begin({"session": "s1"}, delay_frames=2)
    await written(recording, *(word(n, " Hi.") for n in range(20)))
    await recording.close({"state": "stopped"}, cut_off=True)
    assert (tmp_path / "r").read_text() == "in the way"
    told = [r for r in caplog.records if r.levelname == "WARNING" and "recording" in r.message]
    assert len(told) == 1, "not with each word"


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[tuple[TalkService, FakeParts, Bus]]:
    parts, bus = FakeParts(), Bus()
    async with talking(tmp_path, parts, bus) as service:
        yield service, parts, bus


@pytest.mark.asyncio
async def test_a_talk_that_is_recorded(
    tmp_path: Path, talk: tuple[TalkService, FakeParts, Bus]
) -> None:
    talks, parts, bus = talk
    (folder := tmp_path / "kept").mkdir()
    events = bus.subscribe(["talk"])
    answer = await talks.start(TalkRequest(seed=7, record=str(folder)), "me")
    session = answer["session"]["session"]
    path = Path(parts.params["record"]["path"])
    assert path.parent == folder
    assert path.name.endswith(f"-{session}.wav")
    assert parts.params["record"]["max_bytes"] == 2_000_000_000
    assert parts.params["record"]["min_free_bytes"] == 1_000_000_000
    parts.hooks["on_text"]({"frame": 25, "piece": " hello"})
    killed_sound(path, 6)
    parts.on_event("died", {})
    await until(events, "failed")
    assert path.read_bytes()[40:44] == (4 * 1920 * 6).to_bytes(4, "little")
    facts = json.loads(path.with_suffix(".json").read_text())
    assert (facts["model"], facts["quality"], facts["seed"]) == ("moshiko", "bf16", 7)
    assert (facts["status"]["state"], facts["seconds"]) == ("failed", 0.48)
    assert facts["devices"] == {"input": "mic", "output": "spk"}
    assert "cut off" in facts["mended"], "the audio process did not end it"
    assert " hello" in path.with_suffix(".jsonl").read_text()
    assert "hello" in path.with_suffix(".vtt").read_text()


@pytest.mark.asyncio
async def test_what_a_hanging_disk_did_not_take_is_mended_at_the_next_start(
    tmp_path: Path, settings: Settings
) -> None:
    recording, path = await begun(tmp_path / "r", settings)
    await recording.close({"recording": {"state": "stopped", "reason": "failed"}}, cut_off=False)
    assert await mend_all(settings) == 1
    assert len(path.read_bytes()) == 44 + 4 * 1920 * 25
    assert wav.mend(path) == 2.0
    assert list(settings.recordings.iterdir()) == []


@pytest.mark.asyncio
async def test_a_talk_that_cannot_be_recorded_leaves_no_note(
    tmp_path: Path, talk: tuple[TalkService, FakeParts, Bus]
) -> None:
    talks, parts, _ = talk
    parts.fail["start_talk"] = RecordingFailed("no room")
    with pytest.raises(RecordingFailed, match="no room"):
        await talks.start(TalkRequest(seed=7, record=str(tmp_path / "kept")), "me")
    assert list((tmp_path / "recordings").iterdir()) == []
    assert not (tmp_path / "kept").exists()
