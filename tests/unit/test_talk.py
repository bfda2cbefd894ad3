"""One talk, its parts played by fakes behind their Protocols: order, recovery, endings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from moshid.errors import (
    AudioWorkerDied,
    BadAudioFile,
    InvalidParams,
    ModelCrashLoop,
    ModelNotFound,
    ModelStepFailed,
    ModelWorkerDied,
    NoDevice,
    NoTalk,
    TalkBusy,
)
from moshid.events import Bus
from moshid.talk.request import TalkRequest
from moshid.talk.service import TalkService
from moshid.talk.states import TalkState, next_state
from tests.fakes.talk_parts import FakeParts, talking, until

pytestmark = pytest.mark.asyncio


@pytest.fixture
def parts() -> FakeParts:
    return FakeParts()


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest_asyncio.fixture
async def talks(tmp_path: Path, parts: FakeParts, bus: Bus) -> AsyncIterator[TalkService]:
    async with talking(tmp_path, parts, bus) as service:
        yield service


REQUEST = TalkRequest(seed=7)
WHOLE = ["find_devices", "ensure", "find_devices", "set_codec", "load", "begin_talk", "start_talk"]


async def test_start_and_stop_in_order(talks: TalkService, parts: FakeParts) -> None:
    answer = await talks.start(REQUEST, "me")
    assert parts.happened == WHOLE
    assert answer["seed"] == 7
    assert answer["session"]["state"] == "listening"
    assert answer["session"]["devices"] == {"input": "mic", "output": "spk"}
    final = await talks.stop()
    assert parts.happened == [*WHOLE, "stop_talk", "end_talk"]
    assert (final["state"], final["frames"], final["underruns"]) == ("stopped", 12, 1)
    assert (final["reason"], final["error"]) == ("stopped", None)
    assert talks.status()["session"] is None
    with pytest.raises(NoTalk):
        await talks.stop()


async def test_how_tokens_are_drawn_and_how_long_the_model_stays_go_through(
    talks: TalkService, parts: FakeParts
) -> None:
    drawing = {
        "text_temperature": 0.5,
        "text_top_k": 0,
        "text_top_p": 0.9,
        "text_repetition_penalty": 1.2,
        "text_repetition_window": 32,
        "audio_temperature": 0.0,
        "audio_top_k": 100,
        "audio_top_p": 0.8,
    }
    await talks.start(TalkRequest(seed=7, keep_alive="10m", **drawing), "me")  # type: ignore[arg-type]
    assert parts.sampling == {"seed": 7, **drawing}
    assert parts.keep_alive == "10m"


async def test_where_the_time_went_is_told_in_the_talk_and_after_it(
    talks: TalkService, parts: FakeParts
) -> None:
    assert await talks.trace() == {"session": None, "spans": []}
    session = (await talks.start(REQUEST, "me"))["session"]["session"]
    parts.spans = [["step", 0, 5, 20]]
    assert await talks.trace() == {"session": session, "spans": parts.spans}
    last = [["step", 9, 50, 21]]
    parts.on_event("ended", {"reason": "input_end", "stats": {}, "trace": last})
    parts.fail["trace"] = NoTalk("its sound has ended")
    assert await talks.trace() == {"session": session, "spans": last}
    await talks.stop()
    assert await talks.trace() == {"session": session, "spans": last}


async def test_controls_are_set_told_and_shown(talks: TalkService, bus: Bus) -> None:
    with pytest.raises(NoTalk, match="no talk is going on"):
        await talks.set({"muted": True})
    assert talks.status()["controls"] is None
    events = bus.subscribe(["talk"])
    answer = await talks.start(REQUEST, "me")
    session = answer["session"]["session"]
    assert answer["session"]["controls"] == {"muted": False, "volume": 1.0}
    await until(events, "listening")
    muted = {"muted": True, "volume": 1.0}
    assert await talks.set({"muted": True}) == {"session": session, "controls": muted}
    told = (await events.take()).event.data
    assert (told["event"], told["controls"], told["state"]) == ("controls", muted, "listening")
    assert told["status"]["controls"] == talks.status()["controls"] == muted
    assert await talks.set({}) == {"session": session, "controls": muted}
    assert len(events) == 0, "nothing has changed: nothing is told"


async def test_controls_wait_until_the_talk_listens(talks: TalkService, parts: FakeParts) -> None:
    parts.may_open.clear()
    starting = asyncio.create_task(talks.start(REQUEST, "me"))
    await parts.opening.wait()
    with pytest.raises(NoTalk, match="does not listen yet") as caught:
        await talks.set({"muted": True})
    assert "listening" in caught.value.hint
    parts.may_open.set()
    await starting


async def test_a_recording_that_stops_is_told_and_the_talk_goes_on(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    await until(events, "listening")
    stopped = {"state": "stopped", "reason": "limit"}
    parts.on_event("recording", {"recording": stopped})
    told = (await events.take()).event.data
    assert (told["event"], told["recording"]) == ("recording", stopped)
    assert told["status"]["recording"] == stopped
    assert talks.status()["state"] == "listening"


async def test_one_talk_a_daemon(talks: TalkService) -> None:
    await talks.start(REQUEST, "the first client")
    with pytest.raises(TalkBusy, match="the first client") as caught:
        await talks.start(REQUEST, "the second")
    assert caught.value.to_data()["owner"] == "the first client"
    await talks.stop()
    await talks.start(REQUEST, "the second")


async def test_the_input_ends_the_talk(talks: TalkService, parts: FakeParts, bus: Bus) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.on_event("ended", {"reason": "input_end", "stats": {"frames": 100}})
    final = (await until(events, "stopped"))["status"]
    assert (final["reason"], final["frames"]) == ("input_end", 12)


async def test_levels_and_words_are_events_and_words_are_kept(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    events = bus.subscribe(["talk.level", "talk.text"])
    await talks.start(REQUEST, "me")
    parts.on_event("level", {"frame": 3, "input_dbfs": -20.0})
    parts.hooks["on_text"]({"frame": 25, "piece": " hello"})
    assert (await events.take()).event.data == {"frame": 3, "input_dbfs": -20.0}
    word = (await events.take()).event.data
    assert (word["text"], word["t_s"], word["frame"]) == (" hello", 2.0, 25)
    final = await talks.stop()
    kept = Path(final["transcript_file"]).read_text()
    assert '" hello"' in kept


async def test_the_model_dies_and_comes_back(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.hooks["on_gone"](ModelWorkerDied("killed"))
    await until(events, "recovering")
    parts.hooks["on_restarted"]()
    await until(events, "listening")
    assert parts.epochs == [1, 2, -2], "a new epoch, told to both"
    assert (await talks.stop())["state"] == "stopped"


async def test_the_model_dies_again_while_it_rejoins(
    talks: TalkService, parts: FakeParts, bus: Bus
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.hooks["on_gone"](ModelWorkerDied("killed"))
    await until(events, "recovering")
    parts.fail["begin_talk"] = ModelWorkerDied("killed again")
    parts.begun.clear()
    parts.hooks["on_restarted"]()
    await parts.begun.wait()
    assert talks.status()["state"] == "recovering"
    parts.fail["begin_talk"] = ModelStepFailed("and the next one is sick")
    parts.begun.clear()
    parts.hooks["on_restarted"]()
    await parts.begun.wait()
    assert talks.status()["state"] == "recovering"
    parts.fail.clear()
    parts.hooks["on_restarted"]()
    await until(events, "listening")
    assert parts.epochs == [1, 2, 3, 4, -4]


@pytest.mark.parametrize(
    ("event", "data", "kind"),
    [
        ("died", {}, AudioWorkerDied.kind),
        ("failed", {"error": NoDevice("unplugged")}, NoDevice.kind),
    ],
)
async def test_the_sound_fails(
    talks: TalkService, parts: FakeParts, bus: Bus, event: str, data: dict[str, Any], kind: str
) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.on_event(event, data)
    final = (await until(events, "failed"))["status"]
    assert final["error"]["kind"] == kind
    assert parts.happened[-1] == "end_talk", "the model is given back"


async def test_the_model_does_not_come_back(talks: TalkService, parts: FakeParts, bus: Bus) -> None:
    events = bus.subscribe(["talk"])
    await talks.start(REQUEST, "me")
    parts.hooks["on_failed"](ModelCrashLoop("five times"))
    assert (await until(events, "failed"))["status"]["error"]["kind"] == ModelCrashLoop.kind


@pytest.mark.parametrize("step", WHOLE)
async def test_what_keeps_it_from_starting_is_raised_and_cleaned_up(
    talks: TalkService, parts: FakeParts, step: str
) -> None:
    parts.fail[step] = ModelNotFound(f"{step} failed")
    with pytest.raises(ModelNotFound, match=step):
        await talks.start(REQUEST, "me")
    assert talks.status()["session"] is None
    parts.fail.clear()
    assert (await talks.start(REQUEST, "me"))["session"]["state"] == "listening"


@pytest.mark.parametrize("detach", [False, True])
async def test_a_caller_that_leaves_while_it_starts(
    talks: TalkService, parts: FakeParts, bus: Bus, detach: bool
) -> None:
    events = bus.subscribe(["talk"])
    parts.may_open.clear()
    starting = asyncio.create_task(talks.start(TalkRequest(seed=7, detach=detach), "me"))
    await parts.opening.wait()
    starting.cancel()
    await asyncio.wait({starting})
    parts.may_open.set()
    data = await until(events, "listening" if detach else "stopped")
    assert data["status"]["reason"] == (None if detach else "client_gone")


async def test_the_owner_leaves(talks: TalkService, bus: Bus) -> None:
    events = bus.subscribe(["talk"])
    session = (await talks.start(REQUEST, "me"))["session"]["session"]
    talks.owner_gone("another")
    assert talks.status()["state"] == "listening"
    talks.owner_gone(session)
    assert (await until(events, "stopped"))["status"]["reason"] == "client_gone"


async def test_echo_needs_no_model(talks: TalkService, parts: FakeParts) -> None:
    await talks.start(TalkRequest(engine="echo"), "me")
    assert parts.happened == ["start_talk"]


async def test_old_transcripts_are_pruned(
    talks: TalkService, parts: FakeParts, tmp_path: Path
) -> None:
    for n in range(4):
        (tmp_path / "transcripts" / f"2020010{n}T000000-x.jsonl").write_text("{}\n")
    await talks.start(REQUEST, "me")
    parts.hooks["on_text"]({"frame": 1, "piece": "a"})
    final = await talks.stop()
    left = sorted(p.name for p in (tmp_path / "transcripts").iterdir())
    assert left == ["20200103T000000-x.jsonl", Path(final["transcript_file"]).name]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"in_file": "a.wav"}, "absolute"),
        ({"in_file": "/a.wav", "input": 1}, "exclude"),
        ({"out_file": "/a.wav", "output": "spk"}, "exclude"),
        ({"fast": True, "in_file": "/a.wav"}, "fast needs"),
        ({"record": "r"}, "absolute"),
        ({"keep_alive": "soon"}, "keep_alive: 'soon' is no duration"),
        ({"keep_alive": -1}, "keep_alive: -1 is not between"),
        ({"in_file": "/dev/../a.wav", "out_file": "/a.wav"}, "same file"),
    ],
)
async def test_bad_requests(talks: TalkService, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParams, match=says) as caught:
        await talks.start(TalkRequest(**wrong), "me")
    assert ("starting with /" in caught.value.hint) == (says == "absolute")
    assert talks.status()["session"] is None


async def test_files_that_are_not_there_are_told_before_the_model_is_loaded(
    talks: TalkService, parts: FakeParts, tmp_path: Path
) -> None:
    there = tmp_path / "there.wav"
    there.touch()
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"in_file": str(tmp_path / "no.wav")}, "no file"),
        ({"in_file": str(there), "out_file": str(tmp_path / "no" / "out.wav")}, "no folder"),
        ({"in_file": str(there / "no.wav")}, "no file"),
        ({"in_file": str(there), "out_file": str(tmp_path)}, "is a folder"),
    )
    for files, says in wrong:
        with pytest.raises(BadAudioFile, match=says):
            await talks.start(TalkRequest(**files), "me")
    assert not {"ensure", "load", "start_talk"} & {*parts.happened}


async def test_devices_that_are_not_there_are_told_before_the_model_is_fetched(
    talks: TalkService, parts: FakeParts
) -> None:
    parts.fail["find_devices"] = NoDevice("there is no sound input '99'")
    with pytest.raises(NoDevice, match="99"):
        await talks.start(TalkRequest(seed=7, input=99), "me")
    assert not {"ensure", "load", "start_talk"} & {*parts.happened}


@pytest.mark.parametrize(
    ("resident", "files"),
    [
        ({"model": "moshiko", "state": "ready"}, {}),
        ({"model": None, "state": "unloaded"}, {"in_file": "/dev/null", "out_file": "/b.wav"}),
    ],
    ids=["resident", "files"],
)
async def test_devices_are_not_looked_for_where_that_would_only_cost_time(
    talks: TalkService, parts: FakeParts, resident: dict[str, Any], files: dict[str, Any]
) -> None:
    parts.resident = resident
    await talks.start(TalkRequest(seed=7, **files), "me")
    assert parts.happened == [step for step in WHOLE if step != "find_devices"]


async def test_the_table_refuses_impossible_steps() -> None:
    assert next_state(TalkState.LISTENING, TalkState.LISTENING) is TalkState.LISTENING
    with pytest.raises(ValueError, match="cannot go"):
        next_state(TalkState.STOPPED, TalkState.LISTENING)


@pytest.mark.parametrize("path", ["/a\0b.wav", "/" + "x" * 5000])
async def test_what_is_no_path_is_left_to_the_audio_worker(
    talks: TalkService, parts: FakeParts, path: str
) -> None:
    await talks.start(TalkRequest(seed=7, in_file=path[:4096], out_file="/b.wav"), "me")
    assert parts.happened[-1] == "start_talk"
