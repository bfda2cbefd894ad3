"""The main job through the real daemon: fetch, load, talk, fail and recover, as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from moshid.audio.codec import open_codec
from moshid.audio.request import CodecSpec
from moshid.demo import checkpoint
from moshid.demo.home import World
from moshid.demo.watch import Watch
from tests.fakes.talks import LIMIT_S, TALK, kind_of, stopped, talk, talk_to_its_end

FRAME = 1920
DELAY_FRAMES = 2


@pytest.fixture(scope="module")
def hub_root(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hub's folder that holds the demo checkpoint."""
    root = tmp_path_factory.mktemp("hub")
    place = root / checkpoint.REPO
    place.parent.mkdir(parents=True)
    place.symlink_to(demo_checkpoint)
    return root


@pytest.fixture(scope="module")
def world(hub_root: Path) -> Iterator[World]:
    """A daemon with the demo model on disk and in memory."""
    with World() as world:
        world.start_hub(hub_root, rate_bps=1e9, cut_at=[])
        world.start_daemon("--set", "model_step_timeout_s=2")
        job = world.call("download.start", {"model": "demo", "wait": True})["job"]
        assert job["state"] == "done", job
        world.call("model.load", {"model": "demo"})
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()


def test_the_files_stand_in_the_hugging_face_cache(world: World) -> None:
    code = (
        "import json, sys, warnings; warnings.simplefilter('error')\n"
        "from huggingface_hub import hf_hub_download, scan_cache_dir\n"
        "found = scan_cache_dir()\n"
        "paths = [hf_hub_download(sys.argv[1], n, local_files_only=True) for n in sys.argv[2:]]\n"
        "print(json.dumps([[str(w) for w in found.warnings], found.size_on_disk, paths]))"
    )
    names = list(checkpoint.FILE_NAMES)
    command = [sys.executable, "-c", code, checkpoint.REPO, *names]
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, check=True)
    warnings, size_bytes, paths = json.loads(done.stdout)
    assert warnings == []
    assert size_bytes == sum(os.stat(p).st_size for p in paths)


def test_what_comes_out_is_what_went_in_two_frames_later(world: World, tmp_path: Path) -> None:
    """Token for token: what is heard is the codec's own rendering of the tokens that were said."""
    heard_path = tmp_path / "heard.wav"
    said_path = checkpoint.speech_wav()
    status = talk_to_its_end(world, in_file=str(said_path), out_file=str(heard_path), fast=True)
    assert (status["state"], status["reason"]) == ("stopped", "input_end")
    assert status["lagged_frames"] == 0

    said, _rate = soundfile.read(said_path, dtype="float32")
    heard, _rate = soundfile.read(heard_path, dtype="float32")
    frames = len(said) // FRAME
    snapshot = Path(world.call("daemon.hello")["hf_cache"]).glob("models--*/snapshots/*")
    folder = next(iter(snapshot))
    weights, config = folder / checkpoint.CODEC_NAME, folder / checkpoint.CODEC_CONFIG_NAME
    codec = open_codec(CodecSpec("mlx_mimi", str(weights), 8, str(config)))
    tokens = [codec.encode(said[i * FRAME : (i + 1) * FRAME]) for i in range(frames)]
    # A frame is answered when it is complete, with what was said DELAY_FRAMES before it; the first
    # answer, to frame 1, repeats the silence that stands before frame 0.
    rendered = np.concatenate([codec.decode(t) for t in [checkpoint_silence(), *tokens]])
    lag = DELAY_FRAMES * FRAME
    part = heard[lag : lag + len(rendered)]
    assert len(part) == len(rendered)
    assert np.abs(part - rendered[: len(part)]).max() < 2e-4, "16-bit steps are 3e-5"
    assert np.abs(part).max() > 0.05, "and it is no silence"


def checkpoint_silence() -> tuple[int, ...]:
    """The demo codec's tokens of silence."""
    return (1142, 1447, 1987, 472, 580, 1061, 1021, 1032)


def test_any_wav_is_taken(world: World, tmp_path: Path) -> None:
    """Stereo at 44.1 kHz is mixed and resampled; the length stays."""
    said, rate = soundfile.read(checkpoint.speech_wav(), dtype="float32")
    t44 = np.arange(0, len(said) / rate, 1 / 44_100)
    mono = np.interp(t44, np.arange(len(said)) / rate, said)
    stereo = np.stack([mono, np.zeros_like(mono)], axis=1)
    soundfile.write(tmp_path / "in.flac", stereo, 44_100)
    out = tmp_path / "out.wav"
    status = talk_to_its_end(world, in_file=str(tmp_path / "in.flac"), out_file=str(out), fast=True)
    assert status["error"] is None
    assert soundfile.info(out).duration >= len(said) / rate
    heard, _ = soundfile.read(out, dtype="float32")
    assert np.sqrt(np.mean(np.square(heard))) > 0.005


def test_bad_files_and_devices_are_told_by_kind(world: World, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"this is no sound")
    good, out = str(checkpoint.speech_wav()), str(tmp_path / "o.wav")
    cases: dict[str, list[dict[str, Any]]] = {
        "audio.bad_file": [
            {"in_file": str(broken), "out_file": out},
            {"in_file": str(tmp_path / "missing.wav"), "out_file": out},
            {"in_file": good, "out_file": str(tmp_path / "no" / "folder.wav")},
        ],
        "audio.no_device": [
            {"input": "no such microphone", "out_file": out},
            {"in_file": good, "output": 4711},
        ],
    }
    for kind, all_params in cases.items():
        for params in all_params:
            assert kind_of(world, "talk.start", model="demo", **params) == kind, params
    assert world.call("talk.status")["session"] is None


def test_one_talk_at_a_time_and_it_leaves_with_its_owner(world: World, tmp_path: Path) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    with Watch(world, TALK) as watch:
        with world.connect() as owner:
            talk(owner, **files)
            assert kind_of(world, "talk.start", model="demo", **files) == "talk.busy"
            assert kind_of(world, "model.unload") == "talk.busy"
            assert kind_of(world, "model.bench") == "talk.busy"
            assert world.call("model.status")["state"] == "busy"
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
        assert watch.data("talk")[-1]["status"]["reason"] == "client_gone"
    assert world.call("model.status")["state"] == "ready"


def test_a_detached_talk_goes_on(world: World, tmp_path: Path) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    with Watch(world, TALK) as watch:
        with world.connect() as owner:
            session = talk(owner, detach=True, **files)["session"]["session"]
        first = world.call("talk.status")
        assert (first["session"], first["state"]) == (session, "listening")
        assert world.call("talk.stop")["reason"] == "stopped"
        watch.wait_for(stopped, "the talk's end", LIMIT_S)


def test_the_model_is_killed_in_a_talk_and_the_talk_recovers(world: World, tmp_path: Path) -> None:
    out = tmp_path / "o.wav"
    with world.connect() as owner, Watch(world, [*TALK, "model"]) as watch:
        talk(owner, in_file=str(checkpoint.speech_wav()), out_file=str(out))
        watch.wait_for(lambda t, d: t == "talk.level" and d["frame"] >= 10, "frames", LIMIT_S)
        os.kill(world.call("model.status")["pid"], signal.SIGKILL)
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
        states = [d["state"] for d in watch.data("talk") if "state" in d]
        final = watch.data("talk")[-1]["status"]
        told = [d["event"] for d in watch.data("model")]
    order = [s for i, s in enumerate(states) if i == 0 or s != states[i - 1]]
    assert order == ["starting", "listening", "recovering", "listening", "stopping", "stopped"]
    assert (final["reason"], final["error"]) == ("input_end", None)
    assert "worker_died" in told
    assert "restarting" in told
    heard, _ = soundfile.read(out, dtype="float32")
    second_half = heard[len(heard) // 2 :]
    assert np.sqrt(np.mean(np.square(second_half))) > 0.003, "it speaks again"


def test_the_model_hangs_in_a_talk_and_the_talk_recovers(world: World, tmp_path: Path) -> None:
    """SIGSTOP: the process is there and does nothing, as with a device that hangs."""
    out = tmp_path / "o.wav"
    with world.connect() as owner, Watch(world, [*TALK, "model"]) as watch:
        talk(owner, in_file=str(checkpoint.speech_wav()), out_file=str(out))
        watch.wait_for(lambda t, d: t == "talk.level" and d["frame"] >= 10, "frames", LIMIT_S)
        os.kill(world.call("model.status")["pid"], signal.SIGSTOP)
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
        states = [d["state"] for d in watch.data("talk") if "state" in d]
        final = watch.data("talk")[-1]["status"]
        deaths = [d["kind"] for d in watch.data("model") if d["event"] == "worker_died"]
    assert deaths == ["model.stalled"]
    assert "recovering" in states
    assert states.index("recovering") < len(states) - 1 - states[::-1].index("listening")
    assert (final["reason"], final["error"]) == ("input_end", None)
    assert world.call("daemon.status")["model"]["last_fault"]["kind"] == "model.stalled"


def test_where_a_talks_time_went_is_told_after_it(world: World, tmp_path: Path) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    status = talk_to_its_end(world, fast=True, **files)
    told = world.call("talk.trace")
    assert told["session"] == status["session"]
    frames: dict[int, dict[str, tuple[int, int]]] = {}
    for stage, frame, at_us, duration_us in told["spans"]:
        frames.setdefault(frame, {})[stage] = (at_us, at_us + duration_us)
    assert len(frames) >= status["frames"] - 2
    whole = [f for f in frames.values() if len(f) == 5]
    assert len(whole) > len(frames) / 2, "the first frames are answered by nothing"
    for stages in whole:
        encode, step, decode = stages["encode"], stages["step"], stages["decode"]
        assert encode[0] < encode[1] <= step[0] + 1 < step[1] <= decode[0] + 1 < decode[1]
        assert stages["queue"][0] <= stages["queue"][1] <= encode[0] + 1


def test_the_client_writes_a_trace_of_talk_and_benchmark(world: World, tmp_path: Path) -> None:
    """In the format of chrome://tracing and Perfetto."""
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    session = talk_to_its_end(world, fast=True, **files)["session"]
    file = tmp_path / "trace.json"
    world.run_client("bench", "--steps", "5", "--trace", str(file))
    events = json.loads(file.read_text())["traceEvents"]
    named = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert list(named.values()) == [f"talk {session}", "bench"]
    stages = {(named[e["pid"]], e["name"]) for e in events if e["ph"] in "Xb"}
    in_talk = {stage for name, stage in stages if name != "bench"}
    assert in_talk == {"queue", "encode", "step", "decode", "play"}
    assert ("bench", "step") in stages


def test_an_idle_model_is_stepped_while_somebody_calls(world: World) -> None:
    """Each call says that somebody is there; the model's own clock does the rest."""
    before = world.call("model.status")["last_step"]["at"]
    end_s = time.monotonic() + LIMIT_S
    while (now := world.call("model.status"))["last_step"]["at"] == before:
        assert time.monotonic() < end_s
    assert now["state"] == "ready"
    assert now["last_step"]["ms"] > 0.0


def test_a_model_may_go_after_the_talk_and_comes_back_for_the_next(
    world: World, tmp_path: Path
) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    before = world.call("daemon.status")["model"]
    assert before["last_step"]["ms"] > 0.0
    with Watch(world, ["model"]) as watch:
        talk_to_its_end(world, fast=True, keep_alive="0", **files)
        watch.wait_for(lambda _t, d: d["event"] == "unloaded", "that it goes", LIMIT_S)
        assert watch.data("model")[-1]["reason"] == "keep_alive"
    assert not psutil.pid_exists(before["pid"])
    assert talk_to_its_end(world, fast=True, **files)["state"] == "stopped"
    after = world.call("model.status")
    assert (after["state"], after["keep_alive_s"]) == ("ready", None)
    assert after["last_step"]["at"] > before["last_step"]["at"]


def test_bad_words_about_staying_and_drawing_are_refused(world: World) -> None:
    for params in (
        {"keep_alive": "soon"},
        {"text_top_p": 0},
        {"text_top_p": 1.5},
        {"audio_top_k": -1},
        {"text_repetition_penalty": 0},
        {"text_repetition_window": 0},
        {"audio_temperature": -0.1},
    ):
        assert kind_of(world, "talk.start", model="demo", **params) == "rpc.invalid_params", params
    assert kind_of(world, "model.load", model="demo", keep_alive=-1) == "rpc.invalid_params"


def test_the_audio_worker_is_killed_in_a_talk(world: World, tmp_path: Path) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    with world.connect() as owner, Watch(world, TALK) as watch:
        talk(owner, **files)
        workers = world.call("daemon.status")["workers"]
        (pid,) = [w["pid"] for w in workers if w["state"] == "talking"]
        os.kill(pid, signal.SIGKILL)
        watch.wait_for(stopped, "the talk's end", LIMIT_S)
        assert watch.data("talk")[-1]["status"]["error"]["kind"] == "audio.worker_died"
    assert talk_to_its_end(world, fast=True, **files)["state"] == "stopped", "the next one works"


def test_load_on_the_way_is_joined_and_unload_ends_the_process(world: World) -> None:
    before = world.call("model.status")
    again = world.call("model.load", {"model": "demo", "quality": "auto"})
    assert again["pid"] == before["pid"]
    process = psutil.Process(before["pid"])
    status = world.call("model.unload")
    assert (status["state"], status["pid"]) == ("unloaded", None)
    assert not process.is_running()
    assert kind_of(world, "model.bench") == "model.not_loaded"
    q4 = world.call("model.load", {"model": "demo", "quality": "q4"})
    assert (q4["state"], q4["quality"]) == ("ready", "q4")
    bench = world.call("model.bench", {"steps": 5})
    assert bench["steps"] == 5
    assert bench["step_ms"]["p50"] > 0
    world.call("model.load", {"model": "demo", "quality": "bf16"})


def test_the_models_are_listed_with_what_is_on_disk(world: World) -> None:
    models = {m["name"]: m for m in world.call("model.list")["models"]}
    assert (models["demo"]["on_disk"], models["demo"]["loaded"]) == (True, True)
    assert models["demo"]["on_disk_qualities"] == ["bf16"]
    assert not models["moshiko"]["on_disk"]
    assert models["moshiko"]["qualities"]["bf16"] == 15_375_697_208


def test_verify_finds_one_flipped_byte_and_repair_fetches_one_chunk(world: World) -> None:
    assert world.call("download.verify", {"model": "demo"})["ok"]
    cache = Path(world.call("daemon.hello")["hf_cache"])
    (weights,) = cache.glob(f"models--*/snapshots/*/{checkpoint.WEIGHTS_NAME}")
    blob = weights.resolve()
    with blob.open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    report = world.call("download.verify", {"model": "demo"})
    (bad,) = [f for f in report["files"] if not f["ok"]]
    assert bad["path"] == checkpoint.WEIGHTS_NAME
    assert len(bad["bad_chunks"]) == 1
    mended = world.call("download.verify", {"model": "demo", "repair": True})
    assert mended["ok"]
    assert 0 < mended["repaired_bytes"] < 20_000_000
    assert weights.resolve().read_bytes()[50_000_000] == byte
