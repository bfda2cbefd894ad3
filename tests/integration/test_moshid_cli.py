"""The command ``moshid`` where output or arguments are no good: a line, never a traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from moshid.demo.home import World
from tests.fakes import early_ctrl_c

MOSHID = [sys.executable, "-m", "moshid"]


def run(
    *arguments: str, out: int = subprocess.PIPE, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MOSHID, *arguments],
        stdout=out,
        stderr=subprocess.PIPE,
        env=os.environ | (env or {}),
        text=True,
        check=False,
    )


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_report_that_nobody_reads_is_no_error_to_be_told(
    tmp_path: Path, flags: list[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run("doctor", "--home", str(tmp_path / "home"), *flags, out=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_report_is_printed_in_any_locale(tmp_path: Path, encoding: str) -> None:
    home = tmp_path / "Zuhause \N{EURO SIGN}"
    done = run("doctor", "--home", str(home), env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert f"{tmp_path}/Zuhause \\u20ac, made at the first start" in done.stdout
    assert "-> Start it: moshid run" in done.stdout


def test_a_report_to_a_closed_stdout_has_its_exit_code_all_the_same(tmp_path: Path) -> None:
    script = 'exec "$0" "$@" >&-'
    command = ["sh", "-c", script, *MOSHID, "doctor", "--home", str(tmp_path / "home")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_daemon_without_streams_runs_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some launchers start it. No file of its own may become what its children write to."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" <&- >&- 2>&-\n')
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with World() as world:
        world.start_daemon()
        if Path("/proc/self/fd").exists():
            opened = [os.readlink(f"/proc/{world.daemon_pid}/fd/{n}") for n in (0, 1, 2)]
            assert opened == ["/dev/null"] * 3
        assert world.stop_daemon() == 0


@pytest.mark.parametrize("command", [["install"], ["run"]])
def test_a_failure_without_stderr_has_its_exit_code(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").touch()
    script = 'exec "$0" "$@" 2>&-'
    words = ["sh", "-c", script, *MOSHID, *command, "--home", str(tmp_path / "file")]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_report_that_finds_no_room_says_so(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("doctor", "--home", str(tmp_path / "home"), out=full.fileno())
    assert done.returncode == 1
    assert done.stderr == "moshid: the output cannot be written: No space left on device\n"


def test_a_demo_that_has_no_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("demo", "--out", str(tmp_path / "file" / "out"))
    assert done.returncode == 1
    assert "cannot be made: Not a directory\nhint: give --out" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "long"])
def test_a_demo_of_no_length_is_refused(seconds: str) -> None:
    done = run("demo", "--seconds", seconds)
    assert done.returncode == 2
    assert f"'{seconds}' is no number of seconds above 0" in done.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--log-level", "loud"], "--log-level: log_level: 'loud' is none of debug"),
        (["--set", "nope=1"], "--set: there is no setting 'nope'"),
        (["--set", "model_restart_max=inf"], "--set: model_restart_max should be int"),
        (["--set", "nope"], "--set nope: write --set NAME=VALUE"),
    ],
)
def test_a_wrong_flag_is_a_wrong_use(tmp_path: Path, flags: list[str], says: str) -> None:
    done = run("run", "--home", str(tmp_path), *flags)
    assert done.returncode == 2
    assert done.stderr.startswith(f"moshid: {says}")
    assert "hint: " in done.stderr


def test_a_wrong_file_is_no_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("model_restart_max = inf")
    done = run("run", "--home", str(tmp_path))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    done = run("doctor", "--home", str(tmp_path))
    assert done.returncode == 1
    assert done.stdout.startswith("fail  settings  ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("said_last", ["started the daemon", "$ moshi-client download"])
def test_what_ends_the_demo_ends_its_children_without_their_words(
    tmp_path: Path, number: signal.Signals, said_last: str
) -> None:
    """As a terminal does it: to the whole foreground group. Its client starts as it comes."""
    with subprocess.Popen(
        [*MOSHID, "demo", "--no-sound", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stdout is not None
        said = ""
        while said_last not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        os.killpg(demo.pid, number)
        rest = demo.stdout.read()  # to its end: no client has it open
    assert demo.returncode == 128 + number, said + rest
    assert "Traceback" not in rest
    assert "detached" not in rest
    found = re.search(r"process (\d+), home (\S+)", said)
    assert found is not None, said
    assert not Path(found[2]).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)


@pytest.mark.parametrize("module", ["moshid.cli", "argparse", "moshid.daemon"])
def test_ctrl_c_before_it_runs_is_130_without_a_word(tmp_path: Path, module: str) -> None:
    command = early_ctrl_c.command("moshid.__main__", module, "run", "--home", str(tmp_path))
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_command_begins_where_ctrl_c_is_awaited() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["moshid"] == "moshid.__main__:main"
