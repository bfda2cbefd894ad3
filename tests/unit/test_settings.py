"""Settings: the order of sources, types, and clear refusals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moshi_client import places
from moshi_client.errors import UsageError
from moshid import setting_values, settings
from moshid.audio import wav
from moshid.errors import BadSettings, SocketPathTooLong
from moshid.service.environment import job_environment


def test_defaults_follow_the_home(tmp_path: Path) -> None:
    found = settings.load(env={"MOSHID_HOME": str(tmp_path / "h")})
    assert found.socket == tmp_path / "h" / "moshid.sock"
    assert found.ledger == tmp_path / "h" / "ledger.db"
    assert found.default_model == "moshiko"


def test_a_recording_may_be_as_long_as_a_wav_can(tmp_path: Path) -> None:
    most = {"talk_record_max_bytes": str(wav.FILE_BYTES_MAX)}
    found = settings.load(most, {"MOSHID_HOME": str(tmp_path)})
    assert found.talk_record_max_bytes == wav.FILE_BYTES_MAX == setting_values.RECORD_BYTES_MAX


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
        ("log_keep = 1.9", "log_keep should be int: 1.9 is no whole number"),
        ("model_restart_max = inf", "model_restart_max should be int: inf is no whole number"),
        ("model_restart_max = nan", "model_restart_max should be int: nan is no whole number"),
        ("download_limit_bps = 9223372036854775808", "is too large"),
        ("stop_timeout_s = inf", "stop_timeout_s should be float: inf is not finite"),
        ("stop_timeout_s = 'nan'", "stop_timeout_s should be float: 'nan' is not finite"),
        (f"stop_timeout_s = 1{'0' * 400}", "stop_timeout_s should be float: int too large"),
        ("keep_alive = nan", "keep_alive: 'nan' is not between 0 and a year"),
        ("worker_heartbeat_s = 0", "worker_heartbeat_s may not be 0: every answer takes"),
        ("worker_heartbeat_missed_max = 0", "worker_heartbeat_missed_max may not be 0"),
        ("download_keep_awake = 1", "download_keep_awake should be bool"),
        ("download_keep_awake = 'perhaps'", "neither true nor false"),
        ("keep_alive = 'soon'", "keep_alive: 'soon' is no duration: write seconds"),
        ("keep_alive = -1", "keep_alive: '-1' is not between 0 and a year"),
        ("model_step_timeout_s = 0", "model_step_timeout_s may not be 0"),
        ("talk_record_max_bytes = 99999999999", r"over 4293918720 \(4.29 GB\): a WAV cannot"),
        ("download_schedule = 'nights'", "download_schedule: 'nights' is no window of time"),
        ("log_level = 'loud'", "log_level: 'loud' is none of debug"),
        ("a = [", "not TOML"),
        ("a = " + "[" * 10_000, "not TOML"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, toml: str, says: str) -> None:
    (tmp_path / "config.toml").write_text(toml)
    with pytest.raises(BadSettings, match=says) as caught:
        settings.load(env={"MOSHID_HOME": str(tmp_path)})
    assert str(tmp_path / "config.toml") in caught.value.message


def test_a_whole_number_may_be_written_as_a_float(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("talk_confirm_bytes = 2e9")
    found = settings.load(env={"MOSHID_HOME": str(tmp_path)}).talk_confirm_bytes
    assert (found, type(found)) == (2_000_000_000, int)


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
    ("toml", "seconds"),
    [("", None), ("keep_alive = 600", 600.0), ('keep_alive = "1h30m"', 5400.0)],
)
def test_how_long_a_model_stays(tmp_path: Path, toml: str, seconds: float | None) -> None:
    (tmp_path / "config.toml").write_text(toml)
    env = {"MOSHID_HOME": str(tmp_path)}
    assert settings.load(env=env).keep_alive_s == seconds
    assert settings.load(env=env | {"MOSHID_KEEP_ALIVE": "0"}).keep_alive_s == 0.0
    assert settings.load(env=env | {"MOSHID_KEEP_ALIVE": "forever"}).keep_alive_s is None


def test_endpoints_are_a_list_or_have_commas_between(tmp_path: Path) -> None:
    env = {"MOSHID_HOME": str(tmp_path)}
    two = ("https://a.example/hf", "http://b.example:8080")
    (tmp_path / "config.toml").write_text('download_endpoints = ["https://a.example/hf/"]')
    assert settings.load(env=env).download_endpoints == two[:1]
    env["MOSHID_DOWNLOAD_ENDPOINTS"] = f"{two[0]}, {two[1]}/"
    assert settings.load(env=env).download_endpoints == two
    assert settings.load({"download_endpoints": two[1]}, env).download_endpoints == two[1:]
    variables, _ = job_environment(settings.load(env=env), {})
    assert settings.load(env=variables).download_endpoints == two, "as the installed job has them"
    for bad in ("ftp://a.example", "https://me:secret@a.example", "a.example", "https://a/?x=1"):
        with pytest.raises(BadSettings, match=r"download_endpoints: .*endpoint"):
            settings.load({"download_endpoints": bad}, env)
    (tmp_path / "config.toml").write_text("download_endpoints = [1]")
    with pytest.raises(BadSettings, match="no list of endpoints"):
        settings.load(env=env)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"log_level": "loud"}, "--log-level: log_level: 'loud' is none of"),
        ({"log_keep": "x"}, "--set: log_keep should be int"),
        ({"model_restart_max": "inf"}, "--set: model_restart_max should be int"),
        ({"model_pulse_s": "nan"}, "--set: model_pulse_s should be float: 'nan' is not finite"),
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


def special(path: Path, kind: str) -> None:
    """Something in a file's place that is none."""
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    special(tmp_path / "config.toml", kind)
    with pytest.raises(BadSettings, match=r"config\.toml is no regular file"):
        settings.load({"home": str(tmp_path)}, env={})
    with pytest.raises(UsageError, match=r"config\.toml is no regular file"):
        places.socket_path({}, str(tmp_path))


@pytest.mark.parametrize(
    ("flags", "env", "says"),
    [
        ({}, {"MOSHID_HOME": "h"}, "MOSHID_HOME: h is relative to a folder that is gone"),
        ({"home": "h"}, {}, "--home: h is relative to a folder that is gone"),
        ({"home": "/h", "socket": "s"}, {}, "--socket: s is relative to a folder that is gone"),
        ({"home": "~nobody-of-this-name/h"}, {}, "is in the home of a user who is not known"),
    ],
)
def test_a_folder_that_is_gone_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, str],
    env: dict[str, str],
    says: str,
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(BadSettings, match=says):
        settings.load(flags, env)
    assert settings.load({"home": "/h"}, {}).home == Path("/h")
