"""Where the client looks: the same places as moshid.settings and huggingface_hub."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from moshi_client import cli, places
from moshi_client.errors import EXIT_NOT_RUNNING, EXIT_USAGE, UsageError
from moshid import settings
from moshid.errors import SocketPathTooLong


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"MOSHID_HOME": "/srv/m"},
        {"XDG_STATE_HOME": "/state"},
        {"MOSHID_SOCKET": "/run/m.sock"},
        {"MOSHID_HOME": "/srv/m", "MOSHID_SOCKET": "/run/m.sock"},
        {"MOSHID_HOME": "relative/home"},
    ],
)
def test_same_home_and_socket_as_the_daemon(env: dict[str, str], tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), **env}
    daemon = settings.load(env=env)
    home = places.home(env)
    assert home == str(daemon.home)
    assert places.socket_path(env, home) == str(daemon.socket)


def test_flags_come_first(tmp_path: Path) -> None:
    env = {"MOSHID_HOME": "/srv/m", "MOSHID_SOCKET": "/run/m.sock"}
    assert places.home(env, str(tmp_path)) == str(tmp_path)
    assert places.socket_path(env, "/srv/m", "/other.sock") == "/other.sock"


def test_socket_of_config_toml_is_honoured(tmp_path: Path) -> None:
    text = '\ufeffsocket = "/run/toml.sock"\nlog_level = "debug"\n'  # the mark of some editors
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    env = {"MOSHID_HOME": str(tmp_path)}
    assert places.socket_path(env, str(tmp_path)) == "/run/toml.sock"
    assert str(settings.load(env=env).socket) == "/run/toml.sock"
    assert places.socket_path(env | {"MOSHID_SOCKET": "/e.sock"}, str(tmp_path)) == "/e.sock"


@pytest.mark.parametrize("text", ["socket =", "socket = " + "[" * 10_000])
def test_broken_config_toml_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UsageError, match="not TOML"):
        places.socket_path({}, str(tmp_path))


def test_long_path_is_refused_at_the_daemons_limit() -> None:
    assert places.SOCKET_PATH_LIMIT_BYTES == settings.SOCKET_PATH_LIMIT_BYTES
    fits = "/" + "x" * (places.SOCKET_PATH_LIMIT_BYTES - 1)
    assert places.socket_path({"MOSHID_SOCKET": fits}, "/") == fits
    with pytest.raises(UsageError, match="limit"):
        places.socket_path({"MOSHID_SOCKET": fits + "x"}, "/")
    with pytest.raises(SocketPathTooLong):
        settings.load(env={"MOSHID_SOCKET": fits + "x", "HOME": "/"})


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"XDG_CACHE_HOME": "/cache"},
        {"HF_HOME": "/hf"},
        {"HF_HOME": "~/models"},
        {"HUGGINGFACE_HUB_CACHE": "/older"},
        {"HF_HUB_CACHE": "/newer", "HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/hf"},
    ],
)
def test_same_cache_as_huggingface_hub(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    program = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    theirs = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOME": str(tmp_path), **env},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert places.hf_cache({"HOME": str(tmp_path), **env}) == theirs


def test_an_empty_path_is_no_folder() -> None:
    for rule in (places.absolute, places.rooted):
        with pytest.raises(UsageError, match="is empty"):
            rule("")


def test_a_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    assert places.absolute("a/../b.wav") == str(gone / "b.wav")
    assert places.rooted("a/../b.wav") == f"{gone}/a/../b.wav", "as the system takes it"
    gone.rmdir()
    for rule in (places.absolute, places.rooted):
        assert rule("/a.wav") == "/a.wav"
        with pytest.raises(UsageError, match="relative to a folder that is gone"):
            rule("b.wav")


def test_a_home_relative_to_a_folder_that_is_gone_is_told_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    out, err = io.StringIO(), io.StringIO()
    env = {"MOSHID_HOME": "relative"}
    assert cli.main(["status"], env, out, err) == EXIT_USAGE
    assert err.getvalue().startswith("error: relative is relative to a folder that is gone\n")
    assert cli.main(["status", "--home", str(tmp_path)], env, out, err) == EXIT_NOT_RUNNING
