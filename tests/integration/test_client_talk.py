"""``talk``: what is asked for, the transcript, Ctrl-C, the question before a big download."""

from __future__ import annotations

import json
import os
import pty
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.client_process import Screen, run_client, short_home, start_client
from tests.fakes.fake_daemon import Call, FakeDaemon, Fault

Json = dict[str, Any]


def status(state: str, **more: Any) -> Json:
    return {
        "session": "t-1",
        "state": state,
        "frames": 50,
        "seconds": 4.0,
        "lagged_frames": 1,
        "underruns": 2,
        "latency_ms": {"p50": 310.0, "p95": 333.0},
        "stage_ms": {"step": {"p50": 20.0, "p95": 25.0}},
        "transcript_file": "/h/t-1.jsonl",
        "reason": None,
        "error": None,
        **more,
    }


def text(frame: int, piece: str, session: str = "t-1") -> Json:
    return {"session": session, "frame": frame, "t_s": frame * 0.08, "text": piece}


STARTED: Json = {"session": status("listening"), "seed": 42}
ENDED: Json = {"session": "t-1", "state": "stopped", "status": status("stopped", reason="seconds")}


def plays(*events: tuple[str, Json]) -> Any:
    """A reply to talk.start that sends ``events`` on the way."""

    def reply(call: Call) -> Json:
        for topic, data in events:
            call.event(topic, data)
        return STARTED

    return reply


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock") as fake:
        yield fake


def test_transcript_to_stdout_and_summary_to_stderr(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = plays(
        ("talk.text", text(1, " Hel")),
        ("talk.text", text(2, "not ours", session="t-0")),
        ("talk.level", {"session": "t-1", "frame": 2, "input_dbfs": -20.0, "output_dbfs": -60.0}),
        ("talk.text", text(3, "lo.")),
        ("talk", ENDED),
    )
    done = run_client(daemon.path.parent, "talk")
    assert done.returncode == 0
    assert done.stdout == " Hello.\n"
    assert daemon.params_of("talk.start") == [{"ensure": True}]
    assert (
        "t-1: the time was up after 4.0 s, 50 frames, 1 lagged, 2 underruns\n"
        "latency p50 310.0 ms, p95 333.0 ms; step p50 20.0 ms, p95 25.0 ms; seed 42\n"
        "transcript: /h/t-1.jsonl\n"
    ) in done.stderr


def test_json_is_one_object(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = plays(
        ("talk.text", text(1, " Hel")), ("talk.text", text(3, "lo.")), ("talk", ENDED)
    )
    done = run_client(daemon.path.parent, "talk", "--json")
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["text"] == "Hello."
    assert result["transcript"][1] == {"frame": 3, "t_s": 0.24, "text": "lo."}
    assert (result["session"], result["seed"]) == ("t-1", 42)
    assert result["status"]["reason"] == "seconds"


def test_follow_gives_the_events_too(daemon: FakeDaemon) -> None:
    level = {"session": "t-1", "frame": 2, "input_dbfs": -20.0, "output_dbfs": -60.0}
    daemon.replies["talk.start"] = plays(("talk.level", level), ("talk", ENDED))
    done = run_client(daemon.path.parent, "talk", "--json", "--follow")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("topic") for line in lines] == ["talk.level", "talk", None]
    assert lines[0]["data"] == level


def test_every_flag_goes_to_the_daemon(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = plays(("talk", ENDED))
    flags = (
        "--model demo --quality q4 --input 3 --output Speakers --in in.wav --out /abs/out.wav "
        "--seconds 2.5 --record rec --engine echo --no-echo-cancel --seed 7 "
        "--text-temperature 0.5 --audio-temperature 0 --fast --yes --noise-suppression --auto-gain"
    )
    assert run_client(daemon.path.parent, "talk", *flags.split()).returncode == 0
    assert daemon.params_of("talk.start") == [
        {
            "ensure": True,
            "confirm": True,
            "model": "demo",
            "quality": "q4",
            "input": 3,
            "output": "Speakers",
            "in_file": str(Path.cwd() / "in.wav"),
            "out_file": "/abs/out.wav",
            "seconds": 2.5,
            "record": str(Path.cwd() / "rec"),
            "engine": "echo",
            "echo_cancel": False,
            "seed": 7,
            "text_temperature": 0.5,
            "audio_temperature": 0.0,
            "fast": True,
            "noise_suppression": True,
            "auto_gain": True,
        }
    ]


def test_ctrl_c_stops_the_talk_and_exits_0(daemon: FakeDaemon) -> None:
    def stop(call: Call) -> Json:
        call.event("talk.text", text(9, " bye"))
        return status("stopped", reason="stopped", frames=60)

    daemon.replies["talk.start"] = plays(("talk.text", text(1, " Hi")))
    daemon.replies["talk.stop"] = stop
    with start_client(daemon.path.parent, "talk") as process:
        assert process.stderr is not None
        assert "talking; Ctrl-C stops" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 0
    assert out == " Hi bye\n"
    assert "t-1: stopped after 4.0 s, 60 frames" in err


def test_ctrl_c_after_the_talk_has_ended_by_itself(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = plays()
    daemon.replies["talk.stop"] = Fault("talk.none", "no talk")
    with start_client(daemon.path.parent, "talk") as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 0


def test_ctrl_c_while_the_model_comes_in_detaches(daemon: FakeDaemon) -> None:
    def fetch(call: Call) -> Json:
        job = {"id": "j", "repo": "a/b", "state": "downloading", "bytes_total": 4, "bytes_done": 1}
        call.event("download", {"job": job})
        daemon.wait_for("$/cancelRequest")
        raise Fault("rpc.cancelled", "cancelled", code=-32800)

    daemon.replies["talk.start"] = fetch
    with start_client(daemon.path.parent, "talk") as process:
        assert process.stderr is not None
        assert "25.0 %" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "goes on" in err
    # A notification has no answer: the client may be gone before it has been read.
    assert daemon.wait_for("$/cancelRequest") == {"id": 3}


def test_losing_the_daemon_is_3(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = plays(("talk.text", text(1, " Hi")))
    with start_client(daemon.path.parent, "talk") as process:
        assert process.stderr is not None
        process.stderr.readline()
        daemon.die()
        out, err = process.communicate()
    assert process.returncode == 3
    assert out == " Hi\n"
    assert "t-1: cut off after" in err
    assert "the daemon went away, and the talk with it" in err


def test_a_failed_talk_is_1_with_its_error(daemon: FakeDaemon) -> None:
    error = {"kind": "audio.device_failed", "message": "the card is gone", "hint": "plug it in"}
    failed = status("failed", reason="device", error=error)
    daemon.replies["talk.start"] = plays(
        ("talk", {"session": "t-1", "state": "failed", "status": failed})
    )
    done = run_client(daemon.path.parent, "talk")
    assert done.returncode == 1
    assert done.stderr.endswith("error: the card is gone\nhint: plug it in\n")
    done = run_client(daemon.path.parent, "talk", "--json")
    assert json.loads(done.stdout)["status"]["state"] == "failed"
    assert json.loads(done.stderr)["error"]["kind"] == "audio.device_failed"


def test_a_second_talk_is_refused_by_kind(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = Fault("talk.busy", "there is a talk", owner="other")
    done = run_client(daemon.path.parent, "talk", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"]["owner"] == "other"


def asks(call: Call) -> Json:
    if not call.params.get("confirm"):
        raise Fault("talk.confirm_download", "moshiko q4 is not on disk: 4.8 GB, about 7 min")
    call.event("talk", ENDED)
    return STARTED


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_asks_before_a_big_download(daemon: FakeDaemon, answer: str, code: int) -> None:
    daemon.replies["talk.start"] = asks
    keyboard, terminal = pty.openpty()
    os.write(keyboard, answer.encode())
    try:
        with start_client(daemon.path.parent, "talk", stdin=terminal) as process:
            _, err = process.communicate()
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert process.returncode == code
    assert "4.8 GB, about 7 min\nDownload it now? [y/N]" in err
    confirmed = [params.get("confirm") for params in daemon.params_of("talk.start")]
    assert confirmed == ([None, True] if code == 0 else [None])


def test_does_not_ask_without_a_terminal(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = asks
    done = run_client(daemon.path.parent, "talk")
    assert done.returncode == 1
    assert "4.8 GB" in done.stderr
    assert "Download it now?" not in done.stderr
    assert run_client(daemon.path.parent, "talk", "--yes").returncode == 0


def test_on_a_terminal_lines_stay_whole_beside_the_meter(daemon: FakeDaemon) -> None:
    level = {"session": "t-1", "frame": 2, "input_dbfs": -30.0, "output_dbfs": -60.0}
    daemon.replies["talk.start"] = plays(
        ("talk.level", level), ("talk.text", text(1, " One.")), ("talk.text", text(2, " Two"))
    )
    daemon.replies["talk.stop"] = status("stopped")
    screen = Screen()
    process = screen.start(daemon.path.parent, "talk")
    screen.read_until(b"One.\r\n")
    process.send_signal(signal.SIGINT)
    shown = screen.read_to_end()
    assert process.wait() == 0
    assert b"you [#####.....]  moshi [..........]" in shown
    assert b"\r\x1b[KOne.\r\n" in shown
    assert b"Two\r\n" in shown


def test_pcm_does_not_go_to_a_terminal_or_among_json(daemon: FakeDaemon) -> None:
    screen = Screen()
    with screen.start(daemon.path.parent, "talk", "--out", "-") as process:
        shown = screen.read_to_end()
    assert process.returncode == 2
    assert b"which is a terminal" in shown
    assert b"aplay" in shown
    done = run_client(daemon.path.parent, "talk", "--out", "-", "--json")
    assert done.returncode == 2
    assert "both want stdout" in json.loads(done.stderr)["error"]["message"]
    assert daemon.params_of("talk.start") == []


def test_pipes_are_made_for_the_daemon_and_removed_when_it_refuses(daemon: FakeDaemon) -> None:
    made: list[bool] = []

    def refuse(call: Call) -> Json:
        paths = [Path(call.params[name]) for name in ("in_file", "out_file")]
        made.extend(path.is_fifo() and path.stat().st_mode & 0o077 == 0 for path in paths)
        made.extend(path.parent == daemon.path.parent / "run" for path in paths)
        raise Fault("talk.busy", "a talk is going on")

    daemon.replies["talk.start"] = refuse
    done = run_client(daemon.path.parent, "talk", "--in", "-", "--out", "-")
    assert done.returncode == 1
    assert made == [True] * 4
    assert list((daemon.path.parent / "run").iterdir()) == []


def test_beside_pcm_the_transcript_goes_to_stderr(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = plays(("talk.text", text(1, " Hello.")), ("talk", ENDED))
    done = run_client(daemon.path.parent, "talk", "--in", "a.wav", "--out", "-")
    assert (done.returncode, done.stdout) == (0, "")
    assert " Hello.\n" in done.stderr
