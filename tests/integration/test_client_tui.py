"""``tui`` in a real pseudo-terminal: what is seen, what keys do, and that all is given back."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from moshi_client.tui import terminal
from tests.fakes.client_process import client_env, run_client, short_home
from tests.fakes.fake_daemon import FakeDaemon, Fault
from tests.fakes.tui_screen import TuiScreen
from tests.fakes.tui_states import LOG, MODEL, job, talk

Json = dict[str, Any]
STATUS: Json = {"version": "0.1.0", "pid": 7, "uptime_s": 60.0, "memory_bytes": 50_000_000}


def snapshot(**topics: Json) -> Json:
    usual = {"model": {"status": MODEL}, "download": {"jobs": [job()]}, "log": {"lines": [LOG]}}
    return {"subscription": 1, "snapshot": {**usual, **topics}}


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock") as fake:
        fake.replies |= {
            "events.subscribe": snapshot(),
            "daemon.status": STATUS,
            "model.status": MODEL,
        }
        yield fake


def opened(daemon: FakeDaemon, *arguments: str, columns: int = 80, rows: int = 24) -> TuiScreen:
    return TuiScreen(client_env(daemon.path.parent), *arguments, columns=columns, rows=rows)


def told(daemon: FakeDaemon, state: str = "listening", **more: Any) -> None:
    """The event that says how the talk is."""
    status = talk(state, **more)
    daemon.event("talk", {"session": status["session"], "state": state, "status": status})


def test_it_shows_what_there_is_and_what_comes(daemon: FakeDaemon) -> None:
    with opened(daemon) as tui:
        tui.wait_for("moshid 0.1.0", "50.0 MB", "connected", "moshiko q4", "25.0 %", "moshid.x: hm")
        assert len(daemon.params_of("events.subscribe")) == 1
        daemon.event("download", {"job": job(bytes_done=2_400_000_000)})
        told(daemon)
        daemon.event("talk.text", {"session": "s1", "t_s": 61.0, "text": " Hé 日本"})
        level = {"session": "s1", "input_dbfs": -31.0, "output_dbfs": -7.0, "user_speaking": True}
        daemon.event("talk.level", level)
        tui.wait_for("50.0 %", "listening 1:23", "1:01 Hé 日本", "-31 dB  speaking", "-7 dB")
        tui.press("q")
        assert tui.wait_exit() == 0
        assert tui.stderr() == ""
    assert [m for m, _ in daemon.calls].count("daemon.status") == 1, "an idle daemon is left alone"


def test_keys_are_calls(daemon: FakeDaemon) -> None:
    daemon.replies |= {
        "download.pause": {"job": job(state="paused")},
        "download.resume": {"job": job()},
        "download.cancel": {"job": job(state="cancelled")},
        "talk.start": {"session": talk(), "seed": 1},
        "talk.set": {"session": "s1", "controls": {**talk()["controls"], "muted": True}},
        "talk.stop": talk("stopped", reason="stopped"),
    }
    with opened(daemon, "--model", "demo", "--seed", "4") as tui:
        tui.wait_for("downloading")
        tui.press("d")
        tui.wait_for("paused")
        tui.press("d")
        tui.wait_for("downloading")
        tui.press("x")
        tui.wait_for("Cancel the download of kyutai/j1", "y yes   n no")
        tui.press("y")
        tui.wait_for("cancelled", gone="yes")
        tui.press("t")
        tui.wait_for("latency p50 310")
        tui.press("m")
        tui.wait_for("MUTED")
        tui.press("q")
        tui.wait_for("The talk ends with this screen. Quit?")
        tui.press("n")
        tui.wait_for("MUTED", gone="Quit?")
        tui.press("s")
        tui.wait_for("the last talk: stopped")
        tui.press("q")
        assert tui.wait_exit() == 0
    for name in ("pause", "resume", "cancel"):
        assert daemon.params_of(f"download.{name}") == [{"id": "j1"}]
    assert daemon.params_of("talk.start") == [{"ensure": True, "model": "demo", "seed": 4}]
    assert daemon.params_of("talk.set") == [{"muted": True}]


def test_push_to_talk_ends_when_the_key_repeats_no_more(daemon: FakeDaemon) -> None:
    daemon.replies["events.subscribe"] = snapshot(talk={"status": talk()})
    daemon.replies["talk.set"] = {"session": "s1", "controls": {}}
    with opened(daemon) as tui:
        tui.wait_for("latency")
        tui.press("  ")
        assert daemon.wait_for("talk.set") == {"push_to_talk": True, "talking": True}
        assert daemon.wait_for("talk.set", 2) == {"push_to_talk": True, "talking": False}
        tui.wait_for("push-to-talk: hold space")


def test_a_big_download_is_asked_about(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = Fault("talk.confirm_download", "moshiko q4 weighs 4.8 GB")
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        tui.press("t")
        tui.wait_for("moshiko q4 weighs 4.8 GB. Download it now?")
        tui.press("y")
        assert daemon.wait_for("talk.start", 2) == {"ensure": True, "confirm": True}


def test_a_refusal_is_shown_with_its_hint(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = Fault("talk.busy", "a talk is going on")
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        tui.press("t")
        assert "listening" not in tui.wait_for("a talk is going on (hint of talk.busy)")


def test_it_follows_the_windows_size(daemon: FakeDaemon) -> None:
    with opened(daemon) as tui:
        tui.wait_for("─ Model ─", "25.0 %")
        for columns, rows in ((40, 10), (200, 60), (10, 3), (60, 15)):
            tui.resize(columns, rows)
            if columns < 20:
                tui.wait_for("this wind…")
                continue
            tui.wait_until(lambda: "quit" in tui.text.splitlines()[-1], "the hints at the bottom")
            tui.wait_until(lambda: " connected" in tui.text.splitlines()[0], "the header")
            assert len(tui.text.splitlines()) == rows


def test_help_and_redraw(daemon: FakeDaemon) -> None:
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        tui.press("?")
        tui.wait_for("push-to-talk: hold it, or tap it on and off")
        tui.press("\x1b")
        tui.wait_for("25.0 %", gone="Ctrl-L")
        tui.screen.reset()
        tui.press("\x0c")
        assert "Ctrl-L" not in tui.wait_for("25.0 %", "quit")


def test_a_daemon_that_goes_is_waited_for(daemon: FakeDaemon) -> None:
    daemon.replies["talk.start"] = {"session": talk(), "seed": 1}
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        tui.press("t")
        tui.wait_for("latency")
        daemon.die()
        tui.wait_for("trying again", "the daemon went away, and the talk with it")
        tui.press("t")
        tui.wait_for("the daemon is not there")
        daemon.restart()
        tui.wait_for("● connected", "the daemon is back", "no talk: t starts one")
        tui.press("q")
        assert tui.wait_exit() == 0


def test_a_daemon_of_another_protocol_that_comes_back_is_4(daemon: FakeDaemon) -> None:
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        daemon.die()
        daemon.hello |= {"protocol": 9, "min_protocol": 9}
        daemon.restart()
        assert tui.wait_exit() == 4
        assert tui.modes == tui.modes_before
        assert tui.raw.endswith(terminal.LEAVE.encode()), "an error gives the terminal back too"
        assert "speaks protocol 9 to 9" in tui.stderr()


@pytest.mark.parametrize(
    ("end", "code"),
    [("q", 0), ("\x03", 130), (signal.SIGTERM, -15), (signal.SIGHUP, -1), ("\x1c", -3)],
)
def test_the_terminal_is_given_back(daemon: FakeDaemon, end: str | int, code: int) -> None:
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        assert tui.modes != tui.modes_before
        if isinstance(end, str):
            tui.press(end)
        else:
            tui.process.send_signal(end)
        assert tui.wait_exit() == code
        assert tui.modes == tui.modes_before
        assert tui.raw.startswith(terminal.ENTER.encode())
        assert tui.raw.endswith(terminal.LEAVE.encode())


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_back(daemon: FakeDaemon) -> None:
    client = shlex.join([sys.executable, "-m", "moshi_client", "tui"])
    shell = ("sh", "-c", "exec bash --norc --noprofile -i 2>&1")
    env = client_env(daemon.path.parent, PS1="ready> ", HISTFILE="/dev/null")
    with TuiScreen(env, command=shell) as tui:
        tui.wait_for("ready>")
        tui.press(f"{client}\n")
        tui.wait_for("25.0 %")
        tui.press("\x1a")
        tui.wait_for("Stopped", "ready>")
        assert b"\x1b[?1049l" in tui.raw
        tui.press("clear; stty -a | tr ' ' '\\n' | grep -c -x -e icanon -e echo\n")
        tui.wait_until(lambda: tui.text.startswith("2\nready>"), "the shell's own modes")
        daemon.event("download", {"job": job(bytes_done=2_400_000_000)})
        tui.screen.reset()
        tui.press("fg\n")
        tui.wait_for("50.0 %", "connected", "quit")
        tui.press("q")
        tui.wait_for("ready>")
        tui.press("exit 7\n")
        assert tui.wait_exit() == 7


def test_a_terminal_that_takes_nothing_holds_up_no_event(daemon: FakeDaemon) -> None:
    """More than all buffers between daemon and client hold, while the terminal stands still."""
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        tui.stop_output()
        told(daemon)
        for number in range(3000):
            level = {"session": "s1", "input_dbfs": -float(number % 60), "padding": "x" * 1000}
            daemon.event("talk.level", level)
        told(daemon, seconds=3661.0)
        tui.start_output()
        tui.wait_for("listening 1:01:01")
        tui.press("q")
        assert tui.wait_exit() == 0


def test_a_terminal_that_never_takes_anything_does_not_keep_it_from_ending(
    daemon: FakeDaemon,
) -> None:
    with opened(daemon) as tui:
        tui.wait_for("downloading")
        tui.stop_output()
        told(daemon)
        tui.resize(200, 60)
        tui.process.send_signal(signal.SIGTERM)
        assert tui.process.wait(30.0) == -15
        assert tui.modes == tui.modes_before


def test_names_cannot_control_the_terminal(daemon: FakeDaemon) -> None:
    evil = "evil\x1b]0;owned\x07\x1b[2J\x9b2J\u202e"
    daemon.replies["events.subscribe"] = snapshot(download={"jobs": [job(evil)]})
    with opened(daemon) as tui:
        tui.wait_for("evil", "connected")
        tui.press("q")
        tui.wait_exit()
        sequences = set(re.findall(rb"\x1b.", tui.raw))
        assert sequences == {b"\x1b["}
        assert b"\x07" not in tui.raw


def test_no_color_and_ascii(daemon: FakeDaemon) -> None:
    env = client_env(daemon.path.parent, NO_COLOR="1", LC_ALL="C")
    with TuiScreen(env) as tui:
        tui.wait_for("- Model -", "25.0 %", "* connected")
        assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", tui.raw)
        assert tui.raw.isascii()


def test_a_terminal_that_is_none_is_2_with_what_to_do(daemon: FakeDaemon) -> None:
    done = run_client(daemon.path.parent, "tui")
    assert (done.returncode, done.stdout) == (2, "")
    assert "tui needs a terminal" in done.stderr
    assert "hint: For scripts: moshi-client tui --json" in done.stderr
    for term in ("dumb", ""):
        with TuiScreen(client_env(daemon.path.parent, TERM=term)) as tui:
            assert tui.wait_exit() == 2
            assert "TERM is" in tui.stderr()
            assert tui.raw == b""
    assert daemon.calls == []


def test_not_running_is_3_and_another_protocol_4(daemon: FakeDaemon) -> None:
    daemon.hello |= {"protocol": 9, "min_protocol": 9}
    with opened(daemon) as tui:
        assert tui.wait_exit() == 4
        assert "protocol" in tui.stderr()
    daemon.die()
    with opened(daemon) as tui:
        assert tui.wait_exit() == 3
        assert "moshid run" in tui.stderr()
        assert tui.raw == b""
    assert run_client(daemon.path.parent, "tui", "--json").returncode == 3


def test_json_is_one_object_of_what_the_screen_shows(daemon: FakeDaemon) -> None:
    limits = {"limit_bps": 1000}
    daemon.replies["daemon.status"] = {**STATUS, "model": MODEL, "talk": talk(), "limits": limits}
    done = run_client(daemon.path.parent, "tui", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "daemon": STATUS,
        "model": MODEL,
        "downloads": [job()],
        "limits": limits,
        "talk": talk(),
        "log": [LOG],
    }
