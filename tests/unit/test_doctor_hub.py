"""What ``moshid doctor`` says of the Hub: cache, token, endpoint, models."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from moshid.checks import hub
from moshid.checks.check import Check
from tests.unit.test_doctor_checks import machine, probed


def hub_facts(cache: Path, **more: Any) -> dict[str, Any]:
    facts = {"cache": str(cache), "endpoint": "http://127.0.0.1:9", "offline": False}
    return facts | {"token": False, "token_path": "/t"} | more


def by_name(checks: Sequence[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_hub_unreachable_and_no_models_are_warnings(tmp_path: Path) -> None:
    checks = by_name(hub.check_hub(machine(tmp_path, probed(hub_facts(tmp_path / "hub")))))
    assert checks["cache"].state == "ok"
    assert f"{tmp_path / 'hub'} on /" in checks["cache"].seen
    assert checks["endpoint"].state == "warn"
    assert checks["models"].state == "warn"


def test_the_token_is_never_shown(tmp_path: Path) -> None:
    """The probe says only whether there is one."""
    assert "get_token() is not None" in hub.HUB_PROBE
    checks = by_name(hub.check_hub(machine(tmp_path, probed(hub_facts(tmp_path, token=True)))))
    assert checks["token"].seen == "there (not shown)"


def test_a_model_in_the_cache_is_found(tmp_path: Path) -> None:
    commit = "a" * 40
    repo = tmp_path / "models--kyutai--moshiko-mlx-q4"
    (repo / "snapshots" / commit).mkdir(parents=True)
    (repo / "snapshots" / commit / "model.q4.safetensors").write_bytes(b"w")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    checks = by_name(hub.check_hub(machine(tmp_path, probed(hub_facts(tmp_path)))))
    assert checks["models"] == Check("models", "ok", "moshiko q4")


def test_offline_is_a_warning_and_asks_nobody(tmp_path: Path) -> None:
    facts = hub_facts(tmp_path, offline=True, endpoint="http://no.such.host.invalid")
    check = by_name(hub.check_hub(machine(tmp_path, probed(facts))))["endpoint"]
    assert (check.state, "HF_HUB_OFFLINE" in check.seen) == ("warn", True)


class Teapot(http.server.BaseHTTPRequestHandler):
    """Answers HEAD with 418."""

    def do_HEAD(self) -> None:
        self.send_response(418)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Teapot) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_any_answer_of_the_endpoint_is_ok(
    tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    checks = by_name(
        hub.check_hub(machine(tmp_path, probed(hub_facts(tmp_path, endpoint=endpoint))))
    )
    assert checks["endpoint"].state == "ok"
    assert "418" in checks["endpoint"].seen


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "", "ftp://a.example", "https://", "http://a:port", "http://[a"]
)
def test_an_endpoint_that_is_no_url_fails(tmp_path: Path, endpoint: str) -> None:
    """It never answers, which an unreachable one may."""
    facts = hub_facts(tmp_path, endpoint=endpoint)
    check = by_name(hub.check_hub(machine(tmp_path, probed(facts))))["endpoint"]
    assert (check.state, check.seen) == ("fail", f"HF_ENDPOINT is no URL: {endpoint!r}")
    assert "unset it" in check.todo
