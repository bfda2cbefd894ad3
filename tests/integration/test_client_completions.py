"""Completions in the shells themselves: bash, zsh and fish complete a line that is begun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.client_process import client_env, run_client, short_home
from tests.fakes.fake_daemon import FakeDaemon, Fault
from tests.fakes.tui_screen import TuiScreen
from tests.fakes.tui_states import job

MODELS = {"models": [{"name": "demo", "on_disk": True}, {"name": "moshiko"}]}
DEVICES = {"input": [{"name": "Mac Mic", "hostapi": "x"}], "output": []}
BASH = """
eval "$(moshi-client help --completions bash)"
COMP_WORDS=(moshi-client {words}) COMP_CWORD={at}
_moshi_client moshi-client
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock") as fake:
        fake.replies |= {
            "model.list": MODELS,
            "audio.devices": DEVICES,
            "download.list": {"jobs": [job("x"), job("y"), {**job("z"), "repo": "kyutai/y"}]},
            "rpc.discover": {"methods": [{"name": "daemon.status", "summary": "How it is."}]},
        }
        yield fake


@pytest.fixture
def env(daemon: FakeDaemon) -> dict[str, str]:
    """A shell's environment with ``moshi-client`` on its PATH."""
    home = daemon.path.parent
    program = home / "bin" / "moshi-client"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -m moshi_client "$@"\n')
    program.chmod(0o755)
    env = client_env(home)
    return {**env, "PATH": f"{program.parent}:{env['PATH']}"}


def run(env: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def bash(env: dict[str, str], *words: str) -> list[str]:
    script = BASH.format(words=" ".join(words), at=len(words))
    return run(env, "bash", "--norc", "-c", script).split("\n")[:-1]


def test_bash_completes_commands_flags_and_choices(env: dict[str, str]) -> None:
    assert bash(env, "do") == ["download", "downloads", "doctor"]
    assert bash(env, "talk", "--eng") == ["--engine"]
    assert bash(env, "talk", "--quality", "q") == ["q8", "q4"]
    assert bash(env, "talk", "--quality", "=", "q") == ["q8", "q4"]


def test_bash_completes_what_the_daemon_knows(env: dict[str, str]) -> None:
    assert bash(env, "load", "''") == ["demo", "moshiko"]
    assert bash(env, "pause", "''") == ["kyutai/x", "y", "z"], "ids where the name is not enough"
    assert bash(env, "talk", "--input", "M") == ["Mac\\ Mic"]
    assert bash(env, "call", "d") == ["daemon.status"]


def test_bash_in_a_terminal(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "speech.wav").touch()
    shell = ("sh", "-c", "exec bash --norc --noprofile -i 2>&1")
    with TuiScreen({**env, "PS1": "ready> ", "HISTFILE": "/dev/null"}, command=shell) as tui:
        tui.wait_for("ready>")
        tui.press(f'cd {tmp_path}; eval "$(moshi-client help --completions bash)"; clear\n')
        tui.wait_until(lambda: tui.text.strip() == "ready>", "an empty screen")
        tui.press("moshi-client unl\t--js\t")
        tui.wait_for("moshi-client unload --json")
        tui.press("\x15moshi-client ta\t--in spee\t")
        assert "--in speech.wav" in tui.wait_for("moshi-client talk --in speech.wav")


@pytest.mark.skipif(
    sys.platform != "linux" and shutil.which("zsh") is None, reason="there is no zsh"
)
def test_zsh_in_a_terminal(env: dict[str, str]) -> None:
    env = {**env, "PS1": "ready> ", "ZDOTDIR": env["HOME"], "HISTFILE": "/dev/null"}
    with TuiScreen(env, command=("zsh", "-f", "-i")) as tui:
        tui.wait_for("ready>")
        tui.press("autoload -Uz compinit; compinit -u -D; ")
        tui.press("source <(moshi-client help --completions zsh); clear\n")
        tui.wait_until(lambda: tui.text.strip() == "ready>", "an empty screen")
        tui.press("moshi-client load m\t")
        tui.wait_for("moshi-client load moshiko")
        tui.press("--quality q\t")
        tui.wait_for("q4  q8")
        tui.press("\x15moshi-client unl\t")
        assert "--quality" not in tui.wait_for("moshi-client unload", gone="--quality")


@pytest.mark.skipif(
    sys.platform != "linux" and shutil.which("fish") is None, reason="there is no fish"
)
def test_fish_completes(env: dict[str, str]) -> None:
    def fish(line: str) -> list[str]:
        script = f'moshi-client help --completions fish | source; complete -C "{line}"'
        return run(env, "fish", "--no-config", "-c", script).splitlines()

    assert fish("moshi-client unl") == ["unload\tfree the resident model's memory"]
    assert fish("moshi-client load ") == ["demo\ton disk", "moshiko"]
    assert fish("moshi-client talk --quality q") == ["q4", "q8"]
    assert fish("moshi-client talk --quality=q") == ["--quality=q4", "--quality=q8"]
    os.mkdir(os.path.join(env["HOME"], "folder"))
    assert fish(f"moshi-client --home {env['HOME']}/fold")[0].split("\t")[0].endswith("folder/")


def test_completing_is_silent_without_a_daemon_or_with_a_broken_one(daemon: FakeDaemon) -> None:
    home = daemon.path.parent
    line = "--complete=load\t"
    daemon.replies["model.list"] = Fault("rpc.internal", "broken")
    for _ in range(2):
        done = run_client(home, "help", line)
        assert (done.returncode, done.stdout, done.stderr) == (0, "words\n", "")
        daemon.die()


def test_it_asks_the_daemon_that_the_line_names(daemon: FakeDaemon) -> None:
    line = f"--complete=--home\t{daemon.path.parent}\tload\td"
    with short_home() as other:
        done = run_client(other, "help", line)
    assert done.stdout == "words\ndemo\ton disk\n"


def test_json(daemon: FakeDaemon) -> None:
    done = run_client(daemon.path.parent, "help", "--json", "--complete=load\td")
    assert done.stdout == '{"kind": "words", "words": ["demo"]}\n'
    done = run_client(daemon.path.parent, "help", "--json", "--completions", "bash")
    assert done.stdout.startswith('{"shell": "bash", "script": "# Completion of moshi-client')
