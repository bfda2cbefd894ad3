"""What of the shell's environment goes into the job, and what never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshid import settings
from moshid.service.environment import job_environment

HOME = "/h"


def chosen(env: dict[str, str], **flags: object) -> tuple[dict[str, str], list[str]]:
    env = {"HOME": HOME, "MOSHID_HOME": HOME, **env}
    configured = settings.load(flags, env)
    variables, warnings = job_environment(configured, env)
    assert variables.pop("MOSHID_HOME") == str(configured.home)
    return variables, warnings


def test_hub_proxy_and_moshid_variables_go_along() -> None:
    env = {
        "HF_ENDPOINT": "https://mirror.example",
        "HF_HOME": "/data/hf",
        "HF_HUB_CACHE": "/data/hub",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN_PATH": "/secrets/token-file",
        "MOSHID_LOG_LEVEL": "debug",
        "http_proxy": "http://proxy:3128",
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "localhost,.example.org",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "XDG_CACHE_HOME": "/cache",
    }
    variables, warnings = chosen(env)
    assert variables == env
    assert warnings == []


@pytest.mark.parametrize("name", ["PATH", "USER", "HF", "LD_PRELOAD", "SSH_AUTH_SOCK", "PROXY"])
def test_nothing_else_goes_along(name: str) -> None:
    assert chosen({name: "value"}) == ({}, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz"),
        ("HF_TOKEN", "anything"),
        ("HF_MY_TOKEN_2", "anything"),
        ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ("HF_SECRET", "anything"),
        ("HF_ENDPOINT", "https://hub/?t=hf_abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_tokens_are_never_written(name: str, value: str) -> None:
    variables, warnings = chosen({name: value})
    assert variables == {}
    assert len(warnings) == 1
    assert name in warnings[0]
    assert value not in warnings[0].replace(name, "")


def test_the_other_token_variable_is_not_even_looked_at() -> None:
    assert chosen({"HUGGING_FACE_HUB_TOKEN": "hf_abcdefghijklmnop"}) == ({}, [])


@pytest.mark.parametrize(
    "value",
    [
        "http://user:password@proxy:3128",
        "http://user@proxy:3128",
        "user:password@proxy:3128",
        "socks5h://user:pass%40word@proxy",
        "http://user:p@ss@[::1]:3128",
        "http://[user:pw@proxy",
    ],
)
@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "HF_ENDPOINT"])
def test_credentials_in_addresses_are_dropped_with_a_warning(name: str, value: str) -> None:
    variables, warnings = chosen({name: value})
    assert variables == {}
    assert warnings == [f"{name} is left out: it holds a user name or a password"]


def test_what_cannot_stand_in_a_file_is_dropped() -> None:
    variables, warnings = chosen({"HF_HOME": "/a\nExecStart=/bin/evil"})
    assert variables == {}
    assert "cannot be written" in warnings[0]


def test_empty_variables_are_left_out() -> None:
    assert chosen({"HF_HOME": ""}) == ({}, [])


def test_settings_given_as_flags_go_along() -> None:
    variables, _ = chosen(
        {"MOSHID_LOG_LEVEL": "debug"}, log_level="warning", socket="/run/m.sock", log_keep=9
    )
    assert variables == {
        "MOSHID_LOG_LEVEL": "warning",
        "MOSHID_SOCKET": "/run/m.sock",
        "MOSHID_LOG_KEEP": "9",
    }
    env = {"HOME": HOME, "MOSHID_HOME": HOME, **variables}
    assert settings.load(env=env).socket == Path("/run/m.sock")
