"""What the client makes of a sound check, of recordings and of single keys in a talk."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.client_process import client_env, run_client, short_home
from tests.fakes.fake_daemon import Call, FakeDaemon, Fault

Json = dict[str, Any]
CONTROLS: Json = {
    "muted": False,
    "push_to_talk": False,
    "talking": False,
    "volume": 1.0,
    "paused": False,
    "hears": True,
}


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock") as fake:
        (home / "moshid.log").touch()
        yield fake


VERDICT: Json = {
    "ok": True,
    "microphone": {"ok": True, "reason": "ok", "hint": None, "level_dbfs": -32.4},
    "speaker": {"ok": True, "reason": "ok", "hint": None},
    "delay_ms": 640,
    "latency_ms": 31.7,
    "latency_measured": True,
    "echo": {"heard": True, "below_db": 18.2, "delay_ms": 31.7, "hint": "Use headphones."},
}


def checks_sound(daemon: FakeDaemon, verdict: Json) -> None:
    """The daemon's sound check ends at once, with this verdict."""

    def start(call: Call) -> Json:
        ended = {"session": "s", "state": "stopped", "verdict": verdict, "error": None}
        call.event("talk", {"session": "s", "state": "stopped", "status": ended})
        return {"session": {"session": "s", "state": "listening"}, "seed": 1}

    daemon.replies["talk.start"] = start


def test_doctor_sees_the_daemon_and_the_sound(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.hello["version"] = "9.9.9"
    checks_sound(daemon, VERDICT)
    done = run_client(daemon.path.parent, "doctor", "--json", HF_HOME=str(tmp_path))
    report = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert done.returncode == 0
    assert states == {
        "socket": "ok",
        "daemon": "ok",
        "protocol": "ok",
        "version": "warn",
        "cache": "warn",
        "log": "ok",
        "microphone": "ok",
        "speaker": "ok",
        "latency": "ok",
        "echo": "warn",
    }
    assert daemon.params_of("talk.start") == [{"engine": "echo", "seconds": 3.2}]
    said = run_client(daemon.path.parent, "doctor", HF_HOME=str(tmp_path)).stdout
    assert "microphone  ok (-32 dBFS)" in said
    assert "latency     32 ms there and back, by the chirps" in said
    assert "echo        heard 18 dB below after 32 ms" in said
    assert "echo: Use headphones." in said


def test_doctor_says_when_the_microphone_is_silent(daemon: FakeDaemon) -> None:
    deaf = {"ok": False, "reason": "silent", "hint": "allow moshid", "level_dbfs": -120.0}
    checks_sound(daemon, VERDICT | {"microphone": deaf, "echo": None, "latency_ms": None})
    done = run_client(daemon.path.parent, "doctor")
    assert done.returncode == 1
    assert "fail  microphone  silent\n" in done.stdout
    assert "microphone: allow moshid" in done.stdout


@pytest.mark.parametrize(
    ("kind", "state", "code"),
    [("talk.busy", "warn", 0), ("audio.no_device", "warn", 0), ("audio.device_failed", "fail", 1)],
)
def test_doctor_where_the_sound_cannot_be_checked(
    daemon: FakeDaemon, kind: str, state: str, code: int
) -> None:
    daemon.replies["talk.start"] = Fault(kind, "it cannot be")
    done = run_client(daemon.path.parent, "doctor", "--json")
    (check,) = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "sound"]
    assert (check["state"], check["seen"], check["todo"]) == (
        state,
        "it cannot be",
        f"hint of {kind}",
    )
    assert done.returncode == code
    daemon.calls.clear()
    assert run_client(daemon.path.parent, "doctor", "--no-sound").returncode == 0
    assert daemon.params_of("talk.start") == []


def status(state: str, **more: Any) -> Json:
    return {"session": "t-1", "state": state, "frames": 50, "seconds": 4.0, **more}


def talks(daemon: FakeDaemon, started: Json, *events: Json) -> None:
    """A talk that begins with ``started``, says ``events`` on `talk`, and ends."""

    def start(call: Call) -> Json:
        for data in events:
            call.event("talk", {"session": "t-1", **data})
        return {"session": started, "seed": 4}

    daemon.replies["talk.start"] = start


@pytest.mark.parametrize(("reason", "code"), [("ok", 0), ("clips", 0), ("silent", 1)])
def test_a_sound_check_ends_with_its_verdict(daemon: FakeDaemon, reason: str, code: int) -> None:
    microphone = {"ok": reason == "ok", "reason": reason, "hint": "Do.", "level_dbfs": -20.0}
    verdict = VERDICT | {"microphone": microphone}
    ended = status("stopped", reason="seconds", verdict=verdict)
    talks(daemon, status("listening", verdict={"delay_ms": 640}), {"status": ended})
    done = run_client(daemon.path.parent, "talk", "--engine", "echo", "--seconds", "4")
    assert done.returncode == code
    assert "sound check: three chirps, then you hear yourself, 0.64 s later" in done.stderr
    level = "" if reason == "silent" else " (-20 dBFS)"
    assert f"microphone: {reason}{level}. Do.\n" in done.stderr
    assert "latency: 32 ms there and back, by the chirps\n" in done.stderr
    told = "echo: heard 18 dB below after 32 ms. Use headphones.\n" in done.stderr
    assert told == (reason != "silent"), "who hears nothing cannot tell of an echo"
    as_json = run_client(daemon.path.parent, "talk", "--engine", "echo", "--json")
    assert json.loads(as_json.stdout)["status"]["verdict"] == verdict
    assert as_json.returncode == code


RECORDING: Json = {
    "folder": "/r",
    "name": "d-t-1.wav",
    "state": "on",
    "reason": None,
    "bytes": 96_044,
    "seconds": 1.0,
}


def test_a_recording_is_said_aloud_and_its_end_too(daemon: FakeDaemon) -> None:
    stopped = RECORDING | {"state": "stopped", "reason": "disk_full"}
    talks(
        daemon,
        status("listening", recording=RECORDING),
        {"event": "recording", "recording": stopped, "status": status("listening")},
        {"event": "of a newer daemon"},
        {"state": "stopped", "status": status("stopped", recording=stopped)},
    )
    done = run_client(daemon.path.parent, "talk", "--record", "/r")
    assert done.returncode == 0
    assert done.stderr.startswith(
        "talking; Ctrl-C stops\nRECORDING both sides to /r/d-t-1.wav\n"
        "warning: recording has stopped: the disk is full; the talk goes on\n"
    )
    assert "recording: /r/d-t-1.wav (1.0 s)\n" in done.stderr


def test_what_a_recording_lacks_is_said_at_its_end(daemon: FakeDaemon) -> None:
    lacking = RECORDING | {"lost_frames": 31}
    talks(
        daemon,
        status("listening", recording=RECORDING),
        {"state": "stopped", "status": status("stopped", recording=lacking)},
    )
    done = run_client(daemon.path.parent, "talk", "--record", "/r")
    said = "recording: /r/d-t-1.wav (1.0 s, 31 frames missing: the disk was too slow)\n"
    assert said in done.stderr


@pytest.mark.parametrize(
    ("recording", "shown"),
    [
        (RECORDING, "ON: both sides of the talk, to /r/d-t-1.wav, 0:01, 96.0 kB"),
        (RECORDING | {"state": "stopped", "reason": "limit"}, "stopped (limit), /r/d-t-1.wav"),
    ],
)
def test_status_says_that_it_records(daemon: FakeDaemon, recording: Json, shown: str) -> None:
    controls = CONTROLS | {"muted": True, "volume": 0.5}
    talk = status("listening", recording=recording, controls=controls)
    daemon.replies["daemon.status"] = {"talk": talk}
    out = run_client(daemon.path.parent, "status").stdout
    assert f"recording  {shown}" in out
    assert "talk       listening, muted, volume 0.5, 0:04" in out


CLIENT = [sys.executable, "-S", "-m", "moshi_client", "talk"]
SHELL = """
import os, signal, subprocess, sys, termios
mode = termios.tcgetattr(0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
take = lambda: os.tcsetpgrp(0, os.getpid())
job = subprocess.Popen(sys.argv[1:], process_group=0, preexec_fn=take)
_, status = os.waitpid(job.pid, os.WUNTRACED)
print("stopped with the terminal as it was:", os.WIFSTOPPED(status), termios.tcgetattr(0) == mode)
os.killpg(job.pid, signal.SIGCONT)
sys.exit(job.wait())
"""
"""What a shell does of a job: it goes on after a stop."""


class Terminal:
    """A talk with a terminal of its own: keyboard and screen in one, as a user has it."""

    def __init__(self, daemon: FakeDaemon, *command: str) -> None:
        self.master, slave = pty.openpty()
        self.mode = termios.tcgetattr(slave)
        self._slave = slave
        self.shown = b""
        self.process = subprocess.Popen(
            command or CLIENT,
            env=client_env(daemon.path.parent, TERM="xterm", NO_COLOR="1"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def read_until(self, marker: bytes) -> None:
        while marker not in self.shown:
            self.shown += os.read(self.master, 4096)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def ends(self) -> int:
        code = self.process.wait(120)
        assert termios.tcgetattr(self._slave) == self.mode, "the terminal is as it was"
        os.close(self._slave)
        os.close(self.master)
        return code


class Sets:
    """The daemon's ``talk.set``: keeps the whole set, as it does."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.now = dict(CONTROLS)
        daemon.replies["talk.start"] = {"session": status("listening", controls=CONTROLS)}
        daemon.replies["talk.stop"] = status("stopped", reason="stopped")
        daemon.replies["talk.set"] = self.set

    def set(self, call: Call) -> Json:
        self.now |= call.params
        return {"session": "t-1", "controls": dict(self.now)}


def test_keys_set_what_they_say_and_q_stops(daemon: FakeDaemon) -> None:
    Sets(daemon)
    terminal = Terminal(daemon)
    terminal.read_until(b"q stop\r\n")
    for n, key in enumerate((b"m", b"m", b" ", b" ", b" ", b"o", b"+", b"-", b"-", b"p", b"p")):
        terminal.press(key)
        daemon.wait_for("talk.set", n + 1)
    terminal.press(b"x\x1b[A")
    terminal.press(b"q")
    assert terminal.ends() == 0
    assert daemon.params_of("talk.set") == [
        {"muted": True},
        {"muted": False},
        {"push_to_talk": True, "talking": False},
        {"talking": True},
        {"talking": False},
        {"push_to_talk": False, "muted": False},
        {"volume": 1.1},
        {"volume": 1.0},
        {"volume": 0.9},
        {"paused": True},
        {"paused": False},
    ]
    assert len(daemon.params_of("talk.stop")) == 1


def test_the_meter_says_what_is_not_as_usual(daemon: FakeDaemon) -> None:
    sets = Sets(daemon)
    terminal = Terminal(daemon)
    terminal.read_until(b"q stop\r\n")
    terminal.press(b"m-")
    daemon.wait_for("talk.set", 2)
    assert sets.now["muted"]
    while b"muted, volume 0.9" not in terminal.shown:
        daemon.event("talk.level", {"session": "t-1", "input_dbfs": -30.0, "output_dbfs": -60.0})
        terminal.shown += os.read(terminal.master, 4096)
    terminal.press(b"q")
    terminal.ends()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_puts_the_terminal_back(daemon: FakeDaemon, number: int) -> None:
    Sets(daemon)
    terminal = Terminal(daemon)
    terminal.read_until(b"q stop\r\n")
    terminal.process.send_signal(number)
    assert terminal.ends() == -number


def test_a_daemon_that_dies_and_ctrl_c_put_it_back_too(daemon: FakeDaemon) -> None:
    Sets(daemon)
    terminal = Terminal(daemon)
    terminal.read_until(b"q stop\r\n")
    terminal.press(b"\x03")
    assert terminal.ends() == 0
    terminal = Terminal(daemon)
    terminal.read_until(b"q stop\r\n")
    daemon.die()
    assert terminal.ends() == 3


def test_ctrl_z_leaves_the_terminal_to_the_shell_and_comes_back(daemon: FakeDaemon) -> None:
    Sets(daemon)
    terminal = Terminal(daemon, sys.executable, "-S", "-c", SHELL, *CLIENT)
    terminal.read_until(b"q stop\r\n")
    terminal.press(b"\x1a")
    terminal.read_until(b"as it was: True True\r\n")
    terminal.press(b"m")
    daemon.wait_for("talk.set")
    terminal.press(b"q")
    assert terminal.ends() == 0


def test_an_error_of_the_daemon_is_shown_and_the_talk_goes_on(daemon: FakeDaemon) -> None:
    Sets(daemon)
    daemon.replies["talk.set"] = Fault("audio.worker_died", "it is gone")
    terminal = Terminal(daemon)
    terminal.read_until(b"q stop\r\n")
    terminal.press(b"m")
    terminal.read_until(b"error: it is gone\r\n")
    terminal.press(b"q")
    assert terminal.ends() == 0


def test_without_a_terminal_no_key_is_read(daemon: FakeDaemon) -> None:
    talks(daemon, status("listening"), {"status": status("stopped")})
    assert "keys:" not in run_client(daemon.path.parent, "talk").stderr
