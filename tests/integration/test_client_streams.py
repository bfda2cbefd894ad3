"""The streams of moshi-client: closed, full, unread, or of an encoding with few letters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.client_process import client_env, run_client, short_home
from tests.fakes.fake_daemon import FakeDaemon, Fault

NAME = "\xfc \N{HIRAGANA LETTER A} \N{PARROT}"
"""Outside of ASCII in three ways: Python writes these as ``\\xfc``, which JSON does not know,
``\\u3042``, and ``\\U0001f99c``, which it does not know either."""


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock") as fake:
        yield fake


def shell(daemon: FakeDaemon, command: str) -> subprocess.CompletedProcess[str]:
    """Run a client with redirections; ``command`` begins with its arguments."""
    return subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -S -m moshi_client {command}"],
        env=client_env(daemon.path.parent),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict", "utf-8"])
def test_json_is_json_in_every_locale(daemon: FakeDaemon, encoding: str) -> None:
    daemon.replies["x.y"] = {"name": NAME}
    daemon.replies["x.z"] = Fault("x.fault", NAME)
    for args in (("call", "x.y", "--json"), ("call", "x.y")):
        done = run_client(daemon.path.parent, *args, PYTHONIOENCODING=encoding)
        assert json.loads(done.stdout) == {"name": NAME}
    done = run_client(daemon.path.parent, "call", "x.z", "--json", PYTHONIOENCODING=encoding)
    assert json.loads(done.stderr)["error"]["message"] == NAME


@pytest.mark.parametrize("how", ["ascii", "ascii:strict", "utf-8:strict"])
def test_text_that_cannot_be_encoded_is_escaped(daemon: FakeDaemon, how: str) -> None:
    daemon.replies["x.z"] = Fault("x.fault", f"{NAME} \ud800")
    done = run_client(daemon.path.parent, "call", "x.z", PYTHONIOENCODING=how)
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    assert "\\ud800\nhint: " in done.stderr


def test_what_utf_8_has_is_written_as_it_is(daemon: FakeDaemon) -> None:
    daemon.replies["x.y"] = {"name": NAME}
    done = run_client(daemon.path.parent, "call", "x.y", "--json", PYTHONIOENCODING="utf-8")
    assert done.stdout == f'{{"name": "{NAME}"}}\n'


def test_nothing_that_comes_from_elsewhere_commands_the_terminal(daemon: FakeDaemon) -> None:
    evil = "a\x1b[2Jb\x9b1mc\rd\x7fe\tf"
    home = daemon.path.parent
    (home / "moshid.log").write_text(json.dumps({"msg": evil}) + "\n" + evil + "\n")
    daemon.replies["x.y"] = {"name": evil}
    daemon.replies["x.z"] = Fault("x.fault", evil)
    logged, called = run_client(home, "logs"), run_client(home, "call", "x.y")
    failed = run_client(home, "call", "x.z")
    assert logged.stdout == "a\\x1b[2Jb\\x9b1mc\\x0dd\\x7fe\tf\n" * 2
    assert json.loads(called.stdout) == {"name": evil}
    for text in (called.stdout, failed.stdout, failed.stderr):
        assert text.replace("\n", "").replace("\t", "").isprintable()


def test_nobody_can_be_asked_by_a_closed_stdin(daemon: FakeDaemon) -> None:
    done = shell(daemon, "models --delete demo <&-")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    daemon.replies["talk.start"] = Fault("talk.confirm_download", "it weighs 8.2 GB")
    done = shell(daemon, "talk --in a.wav --out b.wav <&-")
    assert (done.returncode, done.stderr.startswith("error: it weighs 8.2 GB\n")) == (1, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_was_asked_for_is_done_though_nothing_can_be_told(daemon: FakeDaemon) -> None:
    daemon.replies["audio.devices"] = {"input": [], "output": []}  # and a word on stderr
    done = shell(daemon, "devices 2>/dev/full")
    assert (done.returncode, done.stdout.count("NAME")) == (0, 2)
    assert shell(daemon, "nothing 2>/dev/full").returncode == 2


def test_an_error_that_nobody_reads_has_its_exit_code(daemon: FakeDaemon) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-S", "-m", "moshi_client", "nothing"]
    done = subprocess.run(command, env=client_env(daemon.path.parent), stderr=writer, check=False)
    os.close(writer)
    assert done.returncode == 2
