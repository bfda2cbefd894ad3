"""The exit codes of the contract: 1 failed, 2 usage, 3 not running, 4 protocol, 130 interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moshi_client.__main__ import INTERRUPTED
from moshi_client.errors import EXIT_INTERRUPTED
from tests.fakes import early_ctrl_c
from tests.fakes.client_process import CLIENT_DIR, client_env, run_client, short_home, start_client
from tests.fakes.fake_daemon import FakeDaemon, Fault


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        yield folder


@pytest.fixture
def daemon(home: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(home / "moshid.sock") as fake:
        yield fake


EVERY_COMMAND = [
    ("status",),
    ("ps",),
    ("talk",),
    ("download", "demo"),
    ("downloads",),
    ("pause", "j"),
    ("resume", "j"),
    ("cancel", "j"),
    ("verify", "demo"),
    ("models",),
    ("load", "demo"),
    ("unload",),
    ("bench",),
    ("devices",),
    ("events",),
    ("call", "daemon.status"),
    ("methods",),
    ("help", "daemon.status"),
    ("tui", "--json"),
    ("doctor",),
    ("stop",),
]


def test_a_closed_stdin_is_not_called_a_terminal(home: Path) -> None:
    command = [sys.executable, "-S", "-m", "moshi_client", "talk", "--in", "-"]
    script = 'exec "$0" "$@" <&-'
    done = subprocess.run(
        ["sh", "-c", script, *command], env=client_env(home), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --in - takes raw PCM from stdin, which is closed\n")


@pytest.mark.parametrize("closed", [">&-", "<&- >&-"])
def test_no_sound_goes_to_a_closed_stdout(home: Path, closed: str) -> None:
    command = [sys.executable, "-S", "-m", "moshi_client", "talk", "--in", "a.wav", "--out", "-"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {closed}', *command],
        env=client_env(home),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --out - writes raw PCM to stdout, which is closed\n")


@pytest.mark.parametrize("args", EVERY_COMMAND, ids=lambda args: str(args[0]))
def test_not_running_is_3_with_the_command_that_starts_it(home: Path, args: tuple[str]) -> None:
    done = run_client(home, *args)
    assert done.returncode == 3
    assert f"MOSHID_HOME={home} moshid run" in done.stderr + done.stdout


def test_not_running_says_how_to_start_it_on_the_socket_that_was_named(home: Path) -> None:
    done = run_client(home, "status", "--socket", f"{home}/o'ther")
    assert f"moshid run --socket '{home}/o'\"'\"'ther'; or" in done.stderr


def test_a_stale_socket_is_not_running(home: Path) -> None:
    fake = FakeDaemon(home / "moshid.sock")
    fake.start()
    fake.die()
    assert fake.path.exists()
    done = run_client(home, "status", "--json")
    assert done.returncode == 3
    assert done.stdout == ""
    assert json.loads(done.stderr)["error"]["kind"] == "client.not_running"


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("nonsense",),
        ("status", "--nonsense"),
        ("pause",),
        ("load", "demo", "--quality", "q2"),
        ("load", "demo", "--wait", "--detach"),
        ("bench", "--steps", "many"),
        ("talk", "--engine", "other"),
        ("download", "https://example.org/f", "--sha256", "00", "--output", "f"),
        ("download", "https://example.org/f"),
        ("download", "demo", "--chunk-size", "huge"),
        ("download", "demo", "--profile", "warp"),
        ("models", "--prune"),
        ("models", "--delete", "demo"),
        ("models", "--delete", "demo", "--prune", "--yes"),
        ("models", "--prune", "--quality", "q4", "--yes"),
        ("models", "--yes"),
        ("models", "--dry-run"),
        ("call", "daemon.status", "no-pair"),
        ("call", "daemon.status", "{broken"),
        ("help", "nonsense"),
        ("tui", "--in", "-"),
        ("status", "--socket", "/" + "x" * 200),
        ("talk", "--seconds", "nan"),
        ("talk", "--seconds", "0"),
        ("tui", "--seconds", "-1"),
        ("talk", "--seed", "-5"),
        ("tui", "--seed", "-5"),
        ("tui", "--seed", "2147483648"),
        ("tui", "--seed", "1.5"),
        ("talk", "--text-temperature", "inf"),
        ("tui", "--audio-top-p", "NaN"),
        ("tui", "--in", "/tmp/\udcff.wav"),
        ("call", "talk.set", "volume=NaN"),
        ("call", "talk.set", "volume=1e999"),
        ("call", "talk.set", '{"volume":NaN}'),
        ("call", "download.start", "model=\udcff\udcfe"),
        ("call", "download.start", 'model="\\ud800"'),
    ],
    ids=lambda args: " ".join(args)[:40] or "nothing",
)
def test_usage_errors_are_2_before_any_daemon_is_asked(home: Path, args: tuple[str, ...]) -> None:
    done = run_client(home, *args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stdout == ""
    done = run_client(home, *args, "--json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["kind"] == "client.usage"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("model.not_loaded", 1),
        ("rpc.internal", 1),
        ("rpc.invalid_params", 2),
        ("rpc.method_not_found", 2),
        ("rpc.protocol_mismatch", 4),
    ],
)
def test_errors_of_the_daemon_by_kind(daemon: FakeDaemon, kind: str, code: int) -> None:
    daemon.replies["daemon.status"] = Fault(kind, "no")
    done = run_client(daemon.path.parent, "status", "--json")
    assert done.returncode == code
    assert json.loads(done.stderr)["error"]["kind"] == kind


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0)])
def test_no_common_protocol_is_4(daemon: FakeDaemon, low: int, high: int) -> None:
    daemon.hello |= {"min_protocol": low, "protocol": high}
    daemon.replies["daemon.hello"] = daemon.hello
    done = run_client(daemon.path.parent, "status")
    assert done.returncode == 4
    assert f"protocol {low} to {high}" in done.stderr


def test_a_daemon_that_refuses_our_protocol_is_4(daemon: FakeDaemon) -> None:
    daemon.replies["daemon.hello"] = Fault("rpc.protocol_mismatch", "too old")
    assert run_client(daemon.path.parent, "status").returncode == 4


def test_something_else_on_the_socket_is_4(daemon: FakeDaemon) -> None:
    def chatter(call: Any) -> dict[str, Any]:
        call.raw(b"HTTP/1.1 400 Bad Request\r\n")
        return {}

    daemon.replies["daemon.hello"] = chatter
    assert run_client(daemon.path.parent, "status").returncode == 4


def test_a_daemon_that_dies_in_a_call_is_3(daemon: FakeDaemon) -> None:
    def die(_call: Any) -> dict[str, Any]:
        daemon.die()
        return {}

    daemon.replies["daemon.status"] = die
    done = run_client(daemon.path.parent, "status", "--json")
    assert done.returncode == 3
    assert json.loads(done.stderr)["error"]["kind"] == "client.connection_lost"


@pytest.mark.parametrize("args", [("events",), ("ps", "--follow"), ("downloads", "--follow")])
def test_ctrl_c_while_following_is_130(daemon: FakeDaemon, args: tuple[str, ...]) -> None:
    with start_client(daemon.path.parent, *args) as process:
        daemon.wait_for("events.subscribe")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err


def test_ctrl_c_in_a_call_cancels_the_request(daemon: FakeDaemon) -> None:
    def never(_call: Any) -> dict[str, Any]:
        daemon.wait_for("$/cancelRequest")
        return {}

    daemon.replies["model.load"] = never
    with start_client(daemon.path.parent, "load", "demo") as process:
        daemon.wait_for("model.load")
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 130
    assert daemon.wait_for("$/cancelRequest") == {"id": 3}


@pytest.mark.parametrize(
    "args",
    [
        ("events",),
        ("ps", "--follow"),
        ("downloads", "--follow"),
        ("download", "demo", "--json", "--follow"),
        ("logs", "-f"),
    ],
    ids=lambda args: str(args[0]),
)
def test_a_reader_that_goes_away_is_noticed_without_any_event(
    daemon: FakeDaemon, args: tuple[str, ...]
) -> None:
    job = {"id": "j", "repo": "kyutai/x", "state": "paused"}
    daemon.replies["events.subscribe"] = {"snapshot": {"download": {"jobs": [job]}}}
    daemon.replies["download.start"] = {"job": job, "created": False}
    (daemon.path.parent / "moshid.log").write_text("a line\n")
    with start_client(daemon.path.parent, *args) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        try:
            assert process.wait(10) == 1
        finally:
            process.kill()
        assert "error" not in process.stderr.read()


def test_a_reader_that_goes_away_ends_it_quietly(daemon: FakeDaemon) -> None:
    with start_client(daemon.path.parent, "events") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        daemon.event("model", {"event": "state"})
        err = process.stderr.read()
        process.wait()
    assert process.returncode == 1
    assert err == ""


@pytest.mark.parametrize("module", ["moshi_client.cli", "argparse", "moshi_client.commands.talk"])
def test_ctrl_c_before_the_command_line_is_read_is_130_without_a_word(
    home: Path, module: str
) -> None:
    assert EXIT_INTERRUPTED == INTERRUPTED
    command = early_ctrl_c.command("moshi_client.__main__", module, "status")
    done = subprocess.run(command, env=client_env(home), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_command_begins_where_ctrl_c_is_awaited() -> None:
    project = tomllib.loads((CLIENT_DIR.parent / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["moshi-client"] == "moshi_client.__main__:main"
