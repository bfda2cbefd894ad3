"""talk.set and recordings through the real daemon with the demo model; killed, too."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from moshi_client.errors import RemoteError
from moshid.demo import checkpoint
from moshid.demo.home import World
from moshid.demo.watch import Watch

FRAME = 1920
RATE = 24_000
LIMIT_S = 100.0
Json = dict[str, Any]
DEFAULTS = {
    "muted": False,
    "push_to_talk": False,
    "talking": False,
    "volume": 1.0,
    "paused": False,
    "hears": True,
}


@pytest.fixture(scope="module")
def world(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A daemon with the demo model in memory."""
    root = tmp_path_factory.mktemp("hub")
    place = root / checkpoint.REPO
    place.parent.mkdir(parents=True)
    place.symlink_to(demo_checkpoint)
    with World() as world:
        world.start_hub(root, rate_bps=1e9, cut_at=[])
        world.start_daemon("--set", "model_step_timeout_s=2")
        job = world.call("download.start", {"model": "demo", "wait": True})["job"]
        assert job["state"] == "done", job
        world.call("model.load", {"model": "demo"})
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()


def stopped(topic: str, data: Json) -> bool:
    return topic == "talk" and data.get("state") in ("stopped", "failed")


def level_from(frame: int) -> Any:
    return lambda topic, data: topic == "talk.level" and data["frame"] >= frame


def error_of(world: World, method: str, **params: Any) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        world.call(method, params)
    assert caught.value.hint
    return caught.value


def the_only(folder: Path, suffix: str) -> Path:
    (path,) = folder.glob(f"*{suffix}")
    return path


def test_controls_of_a_talk_with_the_model(world: World, tmp_path: Path) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    assert error_of(world, "talk.set", muted=True).kind == "talk.none"
    with world.connect() as owner, Watch(world, ["talk", "talk.level"]) as watch:
        started = owner.call("talk.start", {"model": "demo", "seed": 1, **files})
        session = started["session"]["session"]
        assert started["session"]["controls"] == DEFAULTS
        assert world.call("talk.set", {}) == {"session": session, "controls": DEFAULTS}
        for wrong in ({"volume": 3.0}, {"muted": "yes"}, {"loudness": 1}):
            error = error_of(world, "talk.set", **wrong)
            assert error.kind == "rpc.invalid_params"
            assert "push_to_talk?" in str(error.hint)

        watch.wait_for(level_from(8), "frames", LIMIT_S)
        changed = world.call("talk.set", {"muted": True, "volume": 0.5})["controls"]
        assert changed == DEFAULTS | {"muted": True, "volume": 0.5, "hears": False}
        assert world.call("daemon.status")["talk"]["controls"] == changed
        world.call("talk.set", {"paused": True})
        paused_at = watch.data("talk.level")[-1]["frame"]
        watch.wait_for(level_from(paused_at + 12), "frames of the pause", LIMIT_S)
        assert watch.data("talk.level")[-1]["output_dbfs"] == -120.0, "nothing is played"
        world.call("talk.set", {"paused": False, "muted": False})
        watch.wait_for(level_from(paused_at + 20), "frames after it", LIMIT_S)
        final = owner.call("talk.stop")
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
    assert final["state"] == "stopped"
    assert final["interrupts"] == {"count": 0, "last_ms": None, "p50_ms": None}
    assert final["recording"] is None
    told = [d["controls"] for d in watch.data("talk") if d.get("event") == "controls"]
    assert [(c["muted"], c["paused"]) for c in told] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    levels = watch.data("talk.level")
    assert {"speech_probability", "user_speaking", "moshi_speaking", "t_s"} <= levels[0].keys()
    assert any(level["user_speaking"] for level in levels)
    heard = soundfile.read(tmp_path / "o.wav", dtype="float32")[0]
    frames = heard[: len(heard) // FRAME * FRAME].reshape(-1, FRAME)
    quiet = [n for n in range(paused_at, paused_at + 14) if not frames[n].any()]
    assert len(quiet) >= 8, "the pause is silence, and the time line goes on"


def test_a_recorded_talk(world: World, tmp_path: Path) -> None:
    said_path, heard_path = checkpoint.speech_wav(), tmp_path / "heard.wav"
    folder = tmp_path / "new" / "folder"
    files = {"in_file": str(said_path), "out_file": str(heard_path), "fast": True, "seconds": 3.2}
    with world.connect() as owner, Watch(world, ["talk", "talk.text"]) as watch:
        started = owner.call(
            "talk.start", {"model": "demo", "seed": 1, "record": str(folder), **files}
        )
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
    session = started["session"]["session"]
    assert started["session"]["recording"]["state"] == "on"
    assert started["session"]["recording"]["folder"] == str(folder)
    pcm, rate = soundfile.read(the_only(folder, ".wav"), dtype="float32", always_2d=True)
    said, heard = (soundfile.read(path, dtype="float32")[0] for path in (said_path, heard_path))
    assert rate == RATE
    assert np.allclose(pcm[: 40 * FRAME, 0], said[: 40 * FRAME], atol=1e-4), "user left"
    assert np.allclose(pcm[: len(heard), 1], heard, atol=1e-4), "Moshi right, where it was heard"
    assert np.abs(heard).max() > 0.05
    facts = json.loads(the_only(folder, ".json").read_text())
    assert (facts["session"], facts["model"], facts["seed"]) == (session, "demo", 1)
    assert facts["quality"] == "bf16"
    assert facts["status"]["state"] == "stopped"
    assert facts["status"]["frames"] == watch.data("talk")[-1]["status"]["frames"]
    words = [json.loads(line) for line in the_only(folder, ".jsonl").read_text().splitlines()]
    told = [(d["frame"], d["t_s"], d["text"]) for d in watch.data("talk.text")]
    assert [(w["frame"], w["t_s"], w["text"]) for w in words] == told
    assert the_only(folder, ".vtt").read_text().startswith("WEBVTT\n\n")
    assert list((world.home / "recordings").iterdir()) == []


def test_where_it_cannot_be_recorded_the_talk_does_not_begin(world: World, tmp_path: Path) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    (tmp_path / "file").write_text("")
    cases = {
        "audio.recording_failed": [
            *(str(tmp_path / "file"), "/proc/none"),
            str(tmp_path / ("n" * 300)),
        ],
        "rpc.invalid_params": ["relative"],
    }
    for kind, folders in cases.items():
        for record in folders:
            params = {"engine": "echo", "record": record, **files}
            assert error_of(world, "talk.start", **params).kind == kind
    assert world.call("talk.status")["session"] is None
    assert list((world.home / "recordings").iterdir()) == []


def test_a_client_that_goes_as_its_talk_begins_leaves_no_half_of_a_recording(
    world: World, tmp_path: Path
) -> None:
    for _attempt in range(8):
        files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
        params = {"engine": "echo", "record": str(tmp_path / "r"), **files}
        with Watch(world, ["talk"]) as watch:
            with world.connect() as owner:
                call = {"jsonrpc": "2.0", "id": 9, "method": "talk.start", "params": params}
                owner._send(call)  # and no wait for its answer
                watch.wait_for(lambda _topic, data: bool(data.get("session")), "a start", LIMIT_S)
            watch.wait_for(stopped, "the talk's end", LIMIT_S)
    found = Counter(path.stem for path in (tmp_path / "r").glob("*"))
    assert set(found.values()) <= {4}, "sound, captions, transcript and facts, or nothing"


def audio_pid(world: World) -> int:
    workers = world.call("daemon.status")["workers"]
    (pid,) = [w["pid"] for w in workers if w["state"] == "talking"]
    return int(pid)


def begin_echo(
    world: World, folder: Path, watch: Watch, frames: int, *, out: str = "o.wav"
) -> None:
    """A recorded echo of the speech, at real time, with so many frames behind it."""
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(folder / out)}
    params = {"engine": "echo", "detach": True, "record": str(folder / "r"), **files}
    world.call("talk.start", params)
    watch.wait_for(level_from(frames), "frames", LIMIT_S)


def assert_mended(folder: Path, frames: int) -> None:
    pcm, _ = soundfile.read(the_only(folder / "r", ".wav"), dtype="float32", always_2d=True)
    facts = json.loads(the_only(folder / "r", ".json").read_text())
    said = soundfile.read(checkpoint.speech_wav(), dtype="float32")[0]
    assert facts["engine"] == "echo"
    assert "cut off" in facts["mended"]
    assert facts["seconds"] == round(len(pcm) / RATE, 2)
    assert len(pcm) >= (frames - 9) * FRAME
    known = len(pcm) - 2 * FRAME  # what answers the last frame stands behind it
    assert np.allclose(pcm[:known, 0], said[:known], atol=1e-4)
    assert the_only(folder / "r", ".vtt").read_text() == "WEBVTT\n\n"


def test_the_audio_worker_is_killed_and_its_recording_finished(
    world: World, tmp_path: Path
) -> None:
    with Watch(world, ["talk", "talk.level"]) as watch:
        begin_echo(world, tmp_path, watch, 20)
        os.kill(audio_pid(world), signal.SIGKILL)
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
        assert watch.data("talk")[-1]["status"]["error"]["kind"] == "audio.worker_died"
    assert_mended(tmp_path, 20)


def test_the_daemon_is_killed_and_the_audio_worker_finishes_its_files(
    world: World, tmp_path: Path
) -> None:
    """A FLAC has its length, and the recording its last half second, which is mixed as one."""
    with Watch(world, ["talk", "talk.level"]) as watch:
        begin_echo(world, tmp_path, watch, 20, out="o.flac")
        worker = psutil.Process(audio_pid(world))
        world.kill_daemon()
        psutil.wait_procs([worker], timeout=LIMIT_S)
        frames = watch.data("talk.level")[-1]["frame"] + 1
    heard = soundfile.info(tmp_path / "o.flac").frames
    assert frames * FRAME <= heard < (frames + 100) * FRAME
    world.start_daemon("--set", "model_step_timeout_s=2")
    assert_mended(tmp_path, frames + 8)


def test_daemon_and_worker_are_killed_and_the_next_one_finishes(
    world: World, tmp_path: Path
) -> None:
    with Watch(world, ["talk", "talk.level"]) as watch:
        begin_echo(world, tmp_path, watch, 20)
        pid = audio_pid(world)
        os.kill(world.daemon_pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        world.kill_daemon()
    assert len(list((world.home / "recordings").iterdir())) == 1
    world.start_daemon()
    assert_mended(tmp_path, 20)
    assert list((world.home / "recordings").iterdir()) == []
