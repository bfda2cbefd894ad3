"""``moshid doctor`` for real, on this machine, in an environment of its own."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moshid import doctor

EXPECTED = {
    "python",
    "platform",
    "memory",
    "home",
    "socket",
    "daemon",
    "ledger",
    "cache",
    "token",
    "endpoint",
    "models",
    "mlx",
    "sound",
    "service",
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "MOSHID_HOME": str(tmp_path / "home"),
        "MOSHID_SOCKET": "/nonexistent/m.sock",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN": "hf_thisshouldneverbeshown",
    }


def run(env: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import sys; from moshid import doctor; import argparse; p = argparse.ArgumentParser();"
    )
    program += "doctor.add_arguments(p); sys.exit(doctor.run_doctor(p.parse_args()))"
    return subprocess.run(
        [sys.executable, "-c", program, *args],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_check_runs_here_and_no_token_is_shown(env: dict[str, str]) -> None:
    done = run(env, "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert (EXPECTED - states.keys()) == set()
    assert [name for name, state in states.items() if state == "fail"] == []
    assert done.returncode == 0
    assert report["ok"] is True
    seen = {check["name"]: check["seen"] for check in report["checks"]}
    assert seen["token"] == "there (not shown)"
    assert seen["mlx"].startswith("mlx 0.")
    assert "thisshouldneverbeshown" not in done.stdout + done.stderr


def test_text_and_exit_1_when_a_check_fails(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")
    done = run(env)
    assert done.returncode == 1
    assert "is no folder" in done.stdout


def test_wrong_settings_are_a_failed_check() -> None:
    out = io.StringIO()
    args = argparse.Namespace(json=True, set=["no_such_setting=1"])
    assert doctor.run_doctor(args, out) == 1
    (check,) = json.loads(out.getvalue())["checks"]
    assert (check["name"], check["state"]) == ("settings", "fail")
    assert "no_such_setting" in check["seen"]
