"""Which certificates are trusted, and that a wrong place for them keeps nobody from starting."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest
from huggingface_hub.utils._http import get_session

from moshid.checks import hub
from moshid.downloads.certificates import (
    VARIABLES,
    have_requests_trust_them,
    named,
    trusting,
    trusting_as_named,
)
from moshid.downloads.hub import HfHub, HubPlace
from moshid.downloads.job import Job
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.authority import LONG_AGO, Authority, needs_openssl
from tests.fakes.downloads import make_service, running, until
from tests.fakes.raw_web import RawWeb, answer, part
from tests.fakes.repos import REPO
from tests.fakes.url_jobs import RIGHT, place, service_at
from tests.unit.test_doctor_checks import machine, probed
from tests.unit.test_doctor_hub import by_name, hub_facts

COMMIT = "c0ffee" + "0" * 34
ADDRESS = "IP:127.0.0.1"


@pytest.fixture(autouse=True)
def none_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine's own environment names."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def size(trust: ssl.SSLContext) -> int:
    """How many authorities it trusts."""
    return len(trust.get_ca_certs())


def test_the_first_variable_that_is_set_counts() -> None:
    assert named({}) is None
    assert named({"SSL_CERT_FILE": "/f", "CURL_CA_BUNDLE": ""}) == ("SSL_CERT_FILE", "/f")
    both = {"SSL_CERT_FILE": "/f", "REQUESTS_CA_BUNDLE": "/g"}
    assert named(both) == ("REQUESTS_CA_BUNDLE", "/g")
    assert named({"SSL_CERT_DIR": "/d"} | both) == ("REQUESTS_CA_BUNDLE", "/g")


@pytest.mark.parametrize("wrong", ["missing", "empty", "junk"])
def test_where_the_named_ones_cannot_be_used_ours_are(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "junk").write_text("hello")
    env = {"REQUESTS_CA_BUNDLE": str(tmp_path / wrong)}
    assert size(trusting_as_named(env)) == size(trusting(None)) > 50
    doctor = machine(tmp_path, probed(hub_facts(tmp_path)))
    doctor.env.update(env)  # type: ignore[attr-defined]
    check = by_name(hub.check_hub(doctor))["certificates"]
    assert (check.state, "REQUESTS_CA_BUNDLE is" in check.seen) == ("fail", True)


@pytest.mark.asyncio
async def test_a_hub_says_that_they_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shows(job: Job) -> bool:
        words = "the certificates that are named cannot be used"
        return job.error is not None and words in job.error.message

    (tmp_path / "junk").write_text("hello")
    for wrong in ("none", "junk"):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / wrong))
        bus, home = Bus(), tmp_path / f"{wrong}.home"
        async with (
            RawWeb(part) as web,
            running(
                make_service(home, f"https://127.0.0.1:{web.port}", tmp_path, bus=bus)
            ) as service,
        ):
            seen = asyncio.create_task(until(bus, shows))
            await service.start(REPO)
            error = (await seen).error
        assert error is not None
        assert "REQUESTS_CA_BUNDLE" in error.hint


@needs_openssl
@pytest.mark.asyncio
@pytest.mark.parametrize("variable", VARIABLES)
async def test_a_hub_of_ones_own_authority_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """By whichever variable it is named: requests itself reads two of them."""
    us = await asyncio.to_thread(Authority, tmp_path / "ca")
    there = us.as_folder() if variable == "SSL_CERT_DIR" else us.certificate
    monkeypatch.setenv(variable, str(there))
    told = {"id": REPO, "_id": "x", "modelId": REPO, "sha": COMMIT, "siblings": []}
    server = RawWeb(lambda _asked: answer(200, body=json.dumps(told).encode()))
    server.tls = us.context("good", ADDRESS)
    async with server as web:
        hub = HfHub(HubPlace(f"https://127.0.0.1:{web.port}", tmp_path, token=False))
        try:
            assert (await hub.listing(REPO, COMMIT)).commit == COMMIT
        finally:
            hub.close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("wrong", ["missing", "empty file", "empty folder"])
def test_what_requests_passes_over_and_cannot_be_used_keeps_no_hub_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, wrong: str
) -> None:
    """An environment that was deleted; a folder whose certificates nobody has hashed."""
    (tmp_path / "empty file").touch()
    (tmp_path / "empty folder").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / wrong))
    have_requests_trust_them()
    assert get_session().verify is True
    assert size(trusting_as_named({variable: str(tmp_path / wrong)})) > 50


@needs_openssl
@pytest.mark.asyncio
@pytest.mark.parametrize("variable", VARIABLES)
async def test_an_authority_of_ones_own_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """In a file or in a folder; what it signed may be too old, or for somebody else."""
    us = await asyncio.to_thread(Authority, tmp_path / "ca")
    there = us.certificate if variable == "SSL_CERT_FILE" else us.as_folder()
    monkeypatch.setenv(variable, str(there))
    signed = {
        "good": us.context("good", ADDRESS),
        "certificate has expired": us.context("old", ADDRESS, LONG_AGO),
        "not valid for '127.0.0.1'": us.context("other", "DNS:other.example"),
    }
    for words, tls in signed.items():
        server, bus = RawWeb(part), Bus()
        server.tls = tls

        def ended(job: Job, words: str = words) -> bool:
            told = job.error is not None and words in job.error.message
            return told or job.state is JobState.DONE

        async with server as web, running(service_at(tmp_path, words[:3], bus)) as service:
            seen = asyncio.create_task(until(bus, ended))
            url = f"https://127.0.0.1:{web.port}/file.bin"
            await service.urls.start(url, RIGHT, f"{place(tmp_path)}-{words[:3]}")
            job = await seen
        assert (job.state is JobState.DONE) == (words == "good")
