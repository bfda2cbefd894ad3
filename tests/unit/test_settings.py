"""Settings: the order of sources, types, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid import settings
from moshid.errors import BadSettings, SocketPathTooLong


def test_defaults_follow_the_home(tmp_path: Path) -> None:
    found = settings.load(env={"MOSHID_HOME": str(tmp_path / "h")})
    assert found.socket == tmp_path / "h" / "moshid.sock"
    assert found.ledger == tmp_path / "h" / "ledger.db"
    assert found.default_model == "moshiko"


def test_the_platform_names_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    assert settings.default_home({"HOME": "/u"}) == Path("/u/.local/state/moshid")
    assert settings.default_home({"HOME": "/u", "XDG_STATE_HOME": "/s"}) == Path("/s/moshid")
    monkeypatch.setattr("sys.platform", "darwin")
    assert settings.default_home({"HOME": "/u"}) == Path("/u/Library/Application Support/moshid")


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('log_level = "error"\nlog_keep = 7\nstop_timeout_s = 3')
    env = {"MOSHID_HOME": str(tmp_path), "MOSHID_LOG_LEVEL": "warning", "MOSHID_LOG_KEEP": "8"}
    found = settings.load({"log_level": "debug", "socket": None}, env)
    assert (found.log_level, found.log_keep, found.stop_timeout_s) == ("debug", 8, 3.0)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("log_leve = 'x'", "no setting 'log_leve'"),
        ("log_keep = 'many'", "log_keep should be int"),
        ("log_keep = true", "wrong type"),
        ("log_keep = -1", "negative"),
        ("download_keep_awake = 1", "download_keep_awake should be bool"),
        ("download_keep_awake = 'perhaps'", "neither true nor false"),
        ("log_level = 'loud'", "log_level: 'loud' is none of debug"),
        ("a = [", "not TOML"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, toml: str, says: str) -> None:
    (tmp_path / "config.toml").write_text(toml)
    with pytest.raises(BadSettings, match=says) as caught:
        settings.load(env={"MOSHID_HOME": str(tmp_path)})
    assert str(tmp_path / "config.toml") in caught.value.message


@pytest.mark.parametrize(
    ("given", "means"),
    [
        *[(word, True) for word in ("true", "1", "ON", " yes ", "True", True)],
        *[(word, False) for word in ("false", "0", "off", "No", "False", False)],
    ],
)
def test_a_switch_is_told_in_words(tmp_path: Path, given: str | bool, means: bool) -> None:
    env = {"MOSHID_HOME": str(tmp_path)}
    assert settings.load({"download_keep_awake": given}, env).download_keep_awake is means
    if isinstance(given, str):
        found = settings.load(env=env | {"MOSHID_DOWNLOAD_KEEP_AWAKE": given})
        assert found.download_keep_awake is means
    else:
        (tmp_path / "config.toml").write_text(f"download_keep_awake = {str(given).lower()}")
        assert settings.load(env=env).download_keep_awake is means


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"log_level": "loud"}, "--log-level: log_level: 'loud' is none of"),
        ({"log_keep": "x"}, "--set: log_keep should be int"),
        ({"nope": "1"}, "--set: there is no setting 'nope'"),
    ],
)
def test_a_bad_flag_is_refused_by_name(tmp_path: Path, flags: dict[str, str], says: str) -> None:
    with pytest.raises(BadSettings, match=says):
        settings.load(flags, {"MOSHID_HOME": str(tmp_path)})


def test_a_bad_variable_is_refused_by_name(tmp_path: Path) -> None:
    env = {"MOSHID_HOME": str(tmp_path), "MOSHID_STOP_TIMEOUT_S": "soon"}
    with pytest.raises(BadSettings, match="MOSHID_STOP_TIMEOUT_S"):
        settings.load(env=env)


def test_a_socket_path_over_the_limit_is_refused_at_start() -> None:
    with pytest.raises(SocketPathTooLong, match="limit") as caught:
        settings.load(env={"MOSHID_HOME": "/tmp/" + "long/" * 30})
    assert "MOSHID_SOCKET" in caught.value.hint
    env = {"MOSHID_HOME": "/tmp/" + "long/" * 30, "MOSHID_SOCKET": "/tmp/short.sock"}
    assert settings.load(env=env).socket == Path("/tmp/short.sock")
