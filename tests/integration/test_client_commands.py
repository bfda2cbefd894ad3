"""Each command against a fake daemon: what it asks for, what it prints, with and without --json."""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.client_process import run_client, short_home, start_client
from tests.fakes.daemon_replies import JOB, MODEL, MODELS, REPLIES, STATUS, Json
from tests.fakes.fake_daemon import FakeDaemon, Fault


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock", REPLIES) as fake:
        (home / "moshid.log").write_text("")
        yield fake


def run(daemon: FakeDaemon, *args: str) -> str:
    done = run_client(daemon.path.parent, *args)
    assert done.returncode == 0
    assert "error" not in done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("args", "method", "params"),
    [
        (("status",), "daemon.status", {}),
        (("ps",), "model.status", {}),
        (("load", "demo"), "model.load", {"model": "demo", "wait": True}),
        (
            ("load", "a/b", "--quality", "q8", "--detach"),
            "model.load",
            {"model": "a/b", "quality": "q8", "wait": False},
        ),
        (
            ("load", "demo", "--keep-alive", "10m"),
            "model.load",
            {"model": "demo", "wait": True, "keep_alive": "10m"},
        ),
        (("unload",), "model.unload", {}),
        (("models",), "model.list", {}),
        (("bench", "--steps", "7"), "model.bench", {"steps": 7}),
        (("bench",), "model.bench", {}),
        (("bench", "--compare"), "model.bench", {"compare": True}),
        (("downloads",), "download.list", {}),
        (("pause", "job-1"), "download.pause", {"id": "job-1"}),
        (("resume", "job-1"), "download.resume", {"id": "job-1"}),
        (("cancel", "kyutai/x"), "download.cancel", {"id": "kyutai/x"}),
        (("devices",), "audio.devices", {}),
        (("methods",), "rpc.discover", {}),
        (
            ("call", "model.load", "model=demo", "wait=false"),
            "model.load",
            {"model": "demo", "wait": False},
        ),
        (("call", "model.load", '{"model": "1"}'), "model.load", {"model": "1"}),
    ],
)
def test_asks_for_and_prints_the_result(
    daemon: FakeDaemon, args: tuple[str, ...], method: str, params: Json
) -> None:
    assert json.loads(run(daemon, *args, "--json")) == REPLIES[method]
    assert daemon.params_of(method) == [params]
    assert run(daemon, *args).strip()


def test_status_says_what_is_going_on(daemon: FakeDaemon) -> None:
    text = run(daemon, "status")
    assert "0.1.0, pid 7, up 1:02:03, 50.0 MB" in text
    assert "demo q4, ready, 123 MB, step p50 20.0 ms, p95 25.5 ms" in text
    assert "kyutai/x" in text
    assert "25.0 %" in text
    assert "idle" in text
    assert "model, pid 4242, running" in text


def test_status_of_a_talk(daemon: FakeDaemon) -> None:
    talk = {
        "session": "t-1",
        "state": "listening",
        "frames": 50,
        "seconds": 4.0,
        "lagged_frames": 1,
        "underruns": 2,
        "latency_ms": {"p50": 310.0, "p95": 333.0},
    }
    daemon.replies["daemon.status"] = STATUS | {"talk": talk}
    text = run(daemon, "status")
    assert "listening, 0:04, 50 frames, 1 lagged, 2 underruns, latency p50 310.0 ms" in text


def test_models_say_what_was_quantised_here_and_what_auto_takes(daemon: FakeDaemon) -> None:
    here = [{"quality": "q4", "bytes": 29_000_000, "path": "/h/copy"}]
    auto = {"quality": "q8", "why": "q8 is the best on disk"}
    (demo,) = MODELS["models"]
    absent = demo | {"name": "other", "on_disk": False, "loaded": False}
    models = [demo | {"quantised": here, "auto": auto}, absent | {"auto": auto}]
    daemon.replies["model.list"] = {"models": models}
    header, first, second, *reasons = run(daemon, "models").splitlines()
    assert ("QUANTISED HERE" in header, "AUTO" in header) == (True, True)
    assert "q4 29.0 MB      q8" in first
    assert second.startswith("other")
    assert reasons == ["auto, demo: q8 is the best on disk"], "of what is on disk"


def test_load_says_why_it_is_this_quality(daemon: FakeDaemon) -> None:
    daemon.replies["model.load"] = MODEL | {"why": "q4 was asked for"}
    assert "why q4: q4 was asked for" in run(daemon, "load", "demo")


def test_tables(daemon: FakeDaemon) -> None:
    assert "demo   q4       ready  123 MB  20.0 ms  for ever  4242" in run(daemon, "ps")
    assert "bf16 40.0 MB" in run(daemon, "models")
    assert "job-1  kyutai/x  downloading  25 %" in run(daemon, "downloads")
    assert "Mic   JACK" in run(daemon, "devices")
    assert "demo q4: ready, loaded in 1.2 s, warmed up in 0.5 s" in run(daemon, "load", "demo")
    assert "download.get  One job." in run(daemon, "methods")


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ({"until": "2026-01-02T03:04:05Z", "keep_alive_s": 600.0}, "2026-01-02T03:04:05Z"),
        ({"keep_alive_s": 600.0}, "10:00 after its use"),
        ({"keep_alive_s": 0.0}, "its use is over"),
        ({"keep_alive_s": None}, "for ever"),
        ({"pid": None, "state": "unloaded", "keep_alive_s": None}, "-"),
    ],
)
def test_ps_says_how_long_the_model_stays(daemon: FakeDaemon, model: Json, shown: str) -> None:
    daemon.replies["model.status"] = MODEL | model
    row = run(daemon, "ps").splitlines()[1]
    assert f"20.0 ms  {shown}  " in row


def test_status_tells_of_the_last_real_step(daemon: FakeDaemon) -> None:
    last = {"at": "2026-01-02T03:04:05.678Z", "ms": 21.25}
    daemon.replies["daemon.status"] = STATUS | {"model": MODEL | {"last_step": last}}
    assert "last step 21.2 ms at 2026-01-02T03:04:05.678Z" in run(daemon, "status")
    fault = {"at": "2026-01-02T03:04:00.000Z", "kind": "model.stuck", "message": "again"}
    daemon.replies["daemon.status"] = STATUS | {"model": MODEL | {"last_fault": fault}}
    assert "last fault model.stuck at 2026-01-02T03:04:00.000Z" in run(daemon, "status")


def test_status_and_ps_name_the_model_that_no_process_holds(daemon: FakeDaemon) -> None:
    nobody = MODEL | {"model": None, "quality": None, "state": "absent", "about": "moshiko"}
    daemon.replies["daemon.status"] = STATUS | {"model": nobody}
    daemon.replies["model.status"] = nobody
    assert "model     moshiko, absent\n" in run(daemon, "status")
    assert run(daemon, "ps").splitlines()[1].startswith("moshiko  -        absent  ")


def test_no_downloads(daemon: FakeDaemon) -> None:
    daemon.replies["download.list"] = {"jobs": []}
    assert run(daemon, "downloads") == "no downloads\n"


def test_help_of_commands_and_methods(daemon: FakeDaemon) -> None:
    assert "usage: moshi-client talk" in run(daemon, "help", "talk")
    assert "exit codes: 0 ok" in run(daemon, "help")
    text = run(daemon, "help", "download.get")
    assert "id         string           required" in text
    assert "deep       integer or null  7" in text
    assert json.loads(run(daemon, "help", "download.get", "--json"))["name"] == "download.get"


@pytest.mark.parametrize("topic", ["nothing", "no.method"])
def test_help_of_nothing_is_a_usage_error(daemon: FakeDaemon, topic: str) -> None:
    assert run_client(daemon.path.parent, "help", topic).returncode == 2


def test_verify_exits_by_the_verdict(daemon: FakeDaemon) -> None:
    file = {"path": "w", "size": 9, "digest": "d", "ok": False, "bad_chunks": [2], "missing": False}
    daemon.replies["download.verify"] = {"ok": False, "files": [file], "repaired_bytes": 0}
    done = run_client(daemon.path.parent, "verify", "demo")
    assert done.returncode == 1
    assert "1 bad chunk: 2" in done.stdout
    assert daemon.params_of("download.verify") == [{"model": "demo"}]
    daemon.replies["download.verify"] = {"ok": True, "files": [], "repaired_bytes": 9}
    done = run_client(daemon.path.parent, "verify", "a/b", "--repair", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"] is True
    assert daemon.params_of("download.verify")[-1] == {"repo": "a/b", "repair": True}


def test_events_come_one_a_line_until_the_daemon_goes(daemon: FakeDaemon) -> None:
    def subscribe(call: Any) -> Json:
        call.event("model", {"event": "state"})
        daemon.die()
        return {}

    daemon.replies["events.subscribe"] = subscribe
    done = run_client(daemon.path.parent, "events", "model", "--json")
    assert done.returncode == 3
    assert json.loads(done.stderr)["error"]["kind"] == "client.connection_lost"
    assert daemon.params_of("events.subscribe") == [{"topics": ["model"]}]


@pytest.mark.parametrize(
    ("args", "topic", "data", "expected"),
    [
        (("events", "model"), "model", {"event": "state"}, {"seq": 1, "topic": "model"}),
        (("downloads", "--follow"), "download", {"job": JOB}, {"job": JOB}),
        (("ps", "--follow"), "model", {"status": MODEL}, MODEL),
    ],
)
def test_following_prints_one_object_a_line(
    daemon: FakeDaemon, args: tuple[str, ...], topic: str, data: Json, expected: Json
) -> None:
    snapshot = {"download": {"jobs": [JOB]}, "model": {"status": MODEL}}
    daemon.replies["events.subscribe"] = {"subscription": 1, "snapshot": snapshot}
    with start_client(daemon.path.parent, *args, "--json") as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        daemon.event(topic, data)
        line = json.loads(process.stdout.readline())
        daemon.die()
        process.communicate()
    assert expected.items() <= line.items()
    assert process.returncode == 3


def test_stop_waits_until_the_daemon_is_gone(daemon: FakeDaemon) -> None:
    daemon.replies["daemon.stop"] = {"stopping": True}
    with (daemon.path.parent / "moshid.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f"{daemon.hello['pid']}\n")
        lock.flush()
        with start_client(daemon.path.parent, "stop", "--json") as process:
            daemon.wait_for("daemon.stop")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            daemon.stop()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)  # its workers are still ending
            fcntl.flock(lock, fcntl.LOCK_UN)
            out, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(out) == {"stopping": True, "stopped": True}


def test_warns_when_the_caches_differ(daemon: FakeDaemon, tmp_path: Path) -> None:
    done = run_client(daemon.path.parent, "models", HF_HOME=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr.startswith("warning: the daemon keeps models in ")
    assert str(tmp_path / "hub") in done.stderr
    done = run_client(daemon.path.parent, "models", "--json", HF_HOME=str(tmp_path))
    assert "warning" in json.loads(done.stderr)


def test_load_shows_its_stages(daemon: FakeDaemon) -> None:
    def load(call: Any) -> Json:
        loading = MODEL | {"state": "loading", "progress": {"stage": "reading", "fraction": 0.5}}
        call.event("model", {"event": "progress", "status": loading})
        return MODEL

    daemon.replies["model.load"] = load
    done = run_client(daemon.path.parent, "load", "demo")
    assert "50.0 %  reading" in done.stderr
    assert done.stdout.startswith("demo q4: ready")


def test_errors_of_the_daemon_have_a_hint(daemon: FakeDaemon) -> None:
    fault = Fault("model.not_found", "there is no model nope", suggestions=["demo"])
    daemon.replies["model.load"] = fault
    done = run_client(daemon.path.parent, "load", "nope")
    assert done.returncode == 1
    assert done.stderr == "error: there is no model nope\nhint: hint of model.not_found\n"
    done = run_client(daemon.path.parent, "load", "nope", "--json")
    assert done.stdout == ""
    assert json.loads(done.stderr)["error"] == {
        "kind": "model.not_found",
        "message": "there is no model nope",
        "hint": "hint of model.not_found",
        "retryable": False,
        "code": -32000,
        "suggestions": ["demo"],
    }
