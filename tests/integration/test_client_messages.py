"""What the user reads when something is wrong: flags by their names, no traceback, what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.client_process import client_env, run_client, short_home
from tests.fakes.daemon_replies import STATUS
from tests.fakes.fake_daemon import Call, FakeDaemon, Fault


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock") as fake:
        yield fake


def test_what_a_repair_waits_for_is_said_once(daemon: FakeDaemon) -> None:
    full = {"message": "9 MB are needed", "hint": "Free some space.", "kind": "download.disk_full"}
    paused = {"id": "a1", "repo": "a/b", "state": "paused", "error": full}

    def reply(call: Call) -> dict[str, Any]:
        for state in (paused, paused | {"repo": "c/d"}, paused, paused | {"state": "probing"}):
            call.event("download", {"job": state})
        return {"ok": True, "files": []}

    daemon.replies["download.verify"] = reply
    done = run_client(daemon.path.parent, "verify", "a/b", "--repair")
    assert done.returncode == 0
    assert done.stderr.count("is paused") == 1
    assert "a/b is paused: 9 MB are needed. Free some space." in done.stderr


@pytest.mark.parametrize(
    ("args", "method", "said", "shown"),
    [
        (
            ("bench", "--steps", "0"),
            "model.bench",
            "model.bench: Expected `int` >= 1 - at `$.steps`",
            "error: --steps: expected int >= 1",
        ),
        (
            ("download", "demo", "--chunk-size", "1"),
            "download.start",
            "chunk_bytes is 65536 to 1073741824",
            "error: --chunk-size is 65536 to 1073741824",
        ),
        (
            ("talk", "--fast"),
            "talk.start",
            "fast needs both in_file and out_file: devices run in real time",
            "error: --fast needs both --in and --out: devices run in real time",
        ),
        (
            ("events", "nope"),
            "events.subscribe",
            "events.subscribe: Invalid enum value 'nope' - at `$.topics[0]`",
            "error: TOPIC: invalid enum value 'nope'",
        ),
        (
            ("download", "demo", "--from", "/none"),
            "download.start",
            "from: /none cannot be used: No such file or directory",
            "error: --from: /none cannot be used: No such file or directory",
        ),
    ],
)
def test_a_wrong_parameter_is_told_as_the_flag_it_came_by(
    daemon: FakeDaemon, args: tuple[str, ...], method: str, said: str, shown: str
) -> None:
    daemon.replies[method] = Fault("rpc.invalid_params", said)
    done = run_client(daemon.path.parent, *args)
    assert done.returncode == 2
    assert done.stderr == f"{shown}\nhint: See moshi-client {args[0]} --help.\n"


@pytest.mark.parametrize("args", [("status", "extra"), ("talk", "--nope"), ("logs", "--lines=3")])
def test_an_unknown_word_comes_with_the_help_of_its_command(
    daemon: FakeDaemon, args: tuple[str, str]
) -> None:
    done = run_client(daemon.path.parent, *args)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {args[0]} does not know {args[1]}\nhint: See moshi-client {args[0]} --help.\n"
    )


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("talk", "--in", "/tmp/ü\udcff.wav"), "--in: '/tmp/ü\\xff.wav' is not UTF-8"),
        (("talk", "--record", "/tmp/\udcff"), "--record: '/tmp/\\xff' is not UTF-8"),
        (("download", "a/\udcff"), "repo: 'a/\\xff' is not UTF-8"),
        (("download", "demo", "--from", "/\udcff"), "--from: '/\\xff' is not UTF-8"),
        (("download", "demo", "--file", "\udcff"), "--file: '\\xff' is not UTF-8"),
        (("events", "\udcff"), "TOPIC: '\\xff' is not UTF-8"),
        (("call", "x.y", "model=\udcff\udcfe"), "model: '\\xff\\xfe' is not UTF-8"),
        (("call", "x.y", 'model="\\ud800"'), "model: '\\ud800' is not UTF-8"),
        (("call", "x.y", '{"a": {"b": ["\\ud800"]}}'), "a.b[0]: '\\ud800' is not UTF-8"),
        (("call", "x.y", "\udcff=1"), "the name of a parameter: '\\xff' is not UTF-8"),
        (("call", "\udcff"), "method: '\\xff' is not UTF-8"),
    ],
    ids=lambda value: ascii(value),
)
def test_text_that_is_not_utf_8_is_not_sent(
    daemon: FakeDaemon, args: tuple[str, ...], shown: str
) -> None:
    done = run_client(daemon.path.parent, *args)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {shown}\nhint: ")
    assert ("Paths that are sent" in done.stderr) == ("'/" in shown)
    methods = {method for method, _ in daemon.calls}
    assert methods <= {"daemon.hello", "events.subscribe", "model.list"}


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("talk", "--seconds", "nan"), "argument --seconds: 'nan' is no number"),
        (("download", "--patience", "nan"), "argument --patience: 'nan' is no number"),
        (("talk", "--seconds", "x"), "argument --seconds: 'x' is no number"),
        (("talk", "--text-temperature", "inf"), "argument --text-temperature: 'inf' is no number"),
        (("call", "talk.set", "volume=NaN"), "volume: nan is no number that can be sent"),
        (
            ("call", "talk.set", '{"volume":[1e999]}'),
            "volume[0]: inf is no number that can be sent",
        ),
    ],
    ids=str,
)
def test_numbers_that_are_none_are_not_sent(
    daemon: FakeDaemon, args: tuple[str, ...], shown: str
) -> None:
    done = run_client(daemon.path.parent, *args)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {shown}\n")
    assert daemon.calls == []


def test_a_home_that_is_not_utf_8_is_shown_escaped(daemon: FakeDaemon) -> None:
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as in a locale like en_US.UTF-8
    done = run_client(daemon.path.parent, "doctor", "--home", "/none/\udcff", **strict)
    assert done.returncode == 3
    assert "/none/\\udcff/moshid.sock" in done.stdout


def test_no_number_of_lines_is_said_so(daemon: FakeDaemon) -> None:
    done = run_client(daemon.path.parent, "logs", "-n", "-3")
    assert "argument -n: '-3' is no number of lines" in done.stderr


def test_a_methods_help_is_plain_text(daemon: FakeDaemon) -> None:
    method = {"name": "a.b", "summary": "Do ``x``.", "description": "Result: ``{y}``."}
    daemon.replies["rpc.discover"] = {"methods": [method]}
    assert run_client(daemon.path.parent, "help", "a.b").stdout == "a.b\nDo `x`.\nResult: `{y}`.\n"
    assert "Do `x`." in run_client(daemon.path.parent, "methods").stdout


def test_call_shows_the_daemons_own_words(daemon: FakeDaemon) -> None:
    said = "model.bench: Expected `int` >= 1 - at `$.steps`"
    daemon.replies["model.bench"] = Fault("rpc.invalid_params", said)
    done = run_client(daemon.path.parent, "call", "model.bench", "steps=0")
    assert done.stderr == f"error: {said}\nhint: hint of rpc.invalid_params\n"


def test_call_asks_for_a_method_only(daemon: FakeDaemon) -> None:
    done = run_client(daemon.path.parent, "call")
    assert "required: METHOD\n" in done.stderr


@pytest.mark.parametrize("out", ["same.wav", "link.wav", "./same.wav"])
def test_a_talk_may_not_overwrite_what_is_said(
    daemon: FakeDaemon, tmp_path: Path, out: str
) -> None:
    said = tmp_path / "same.wav"
    said.write_bytes(b"RIFF")
    (tmp_path / "link.wav").hardlink_to(said)
    done = run_client(daemon.path.parent, "talk", "--in", str(said), "--out", f"{tmp_path}/{out}")
    assert done.returncode == 2
    assert "name the same file" in done.stderr
    assert daemon.params_of("talk.start") == []


def test_what_is_bad_comes_with_the_command_that_repairs_it(daemon: FakeDaemon) -> None:
    daemon.replies["download.verify"] = {"ok": False, "files": [], "repaired_bytes": 0}
    assert "verify demo --repair" in run_client(daemon.path.parent, "verify", "demo").stderr
    done = run_client(daemon.path.parent, "verify", "demo", "--repair")
    assert done.returncode == 1
    assert "--repair" not in done.stderr


@pytest.mark.parametrize("args", [(), ("--repair",)], ids=str)
@pytest.mark.parametrize(
    ("state", "hint"),
    [("paused", "moshi-client resume demo"), ("downloading", "verify again when it is done")],
)
def test_what_has_not_come_yet_is_told_as_incomplete(
    daemon: FakeDaemon, args: tuple[str, ...], state: str, hint: str
) -> None:
    half = {"path": "w", "size": 90_000_000, "ok": True, "missing_bytes": 56_000_000}
    bad = half | {"path": "x", "ok": False, "bad_chunks": [2, 3]}
    reply = {"ok": True, "files": [half], "repaired_bytes": 0, "state": state}
    daemon.replies["download.verify"] = reply
    done = run_client(daemon.path.parent, "verify", "demo", *args)
    assert done.returncode == 1
    assert "incomplete, 56.0 MB missing; what is there is right" in done.stdout
    assert done.stdout.endswith("1 file not all there yet; what is there is right\n")
    assert hint in done.stderr
    daemon.replies["download.verify"] = reply | {"ok": False, "files": [half, bad]}
    done = run_client(daemon.path.parent, "verify", "demo", *args)
    assert done.returncode == 1
    assert "incomplete, 56.0 MB missing; 2 bad chunks: 2, 3" in done.stdout
    assert done.stdout.endswith("2 files not all there yet; some of what is there is wrong\n")
    assert ("verify demo --repair" in done.stderr) == (not args)
    daemon.replies["download.verify"] = reply | {"files": []}
    done = run_client(daemon.path.parent, "verify", "demo", *args)
    assert done.returncode == 1
    assert done.stdout.endswith("nothing is there yet\n")


def test_no_device_comes_with_the_way_without(daemon: FakeDaemon) -> None:
    daemon.replies["audio.devices"] = {"input": [], "output": []}
    done = run_client(daemon.path.parent, "devices")
    assert "talk --in FILE --out FILE" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("args", [("downloads",), ("downloads", "--json")], ids=str)
def test_output_that_cannot_be_written_is_a_failure(
    daemon: FakeDaemon, args: tuple[str, ...]
) -> None:
    daemon.replies["download.list"] = {"jobs": []}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-S", "-m", "moshi_client", *args],
            env=client_env(daemon.path.parent),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    if "--json" in args:
        assert json.loads(done.stderr)["error"]["kind"] == "client.failed"
    else:
        assert done.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("version", ["0.0.9", "9.0.0"])
def test_status_says_that_the_daemon_is_of_another_version(
    daemon: FakeDaemon, version: str
) -> None:
    """The package was upgraded, and nobody has started the daemon again."""
    daemon.replies["daemon.status"] = STATUS
    assert run_client(daemon.path.parent, "status").stderr == ""
    daemon.hello["version"] = version
    done = run_client(daemon.path.parent, "status")
    assert (done.returncode, f"version {version}, this client is" in done.stderr) == (0, True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_fault(daemon: FakeDaemon, closed: str) -> None:
    daemon.replies["download.list"] = {"jobs": []}
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -S -m moshi_client downloads {closed}"],
        env=client_env(daemon.path.parent),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
