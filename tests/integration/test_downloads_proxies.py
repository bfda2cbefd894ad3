"""Proxies: the Hub's questions and the CDN's bytes go through them, and the token no further."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
from pathlib import Path

import pytest

from moshid.demo.hub import DemoHub
from moshid.downloads.states import JobState
from moshid.events import Bus
from tests.fakes.downloads import make_service, running, until
from tests.fakes.far_hub import CDN, HUB, FarHub, certify
from tests.fakes.proxy import Proxy
from tests.fakes.raw_web import Asked, RawWeb, answer
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache

pytestmark = pytest.mark.asyncio

WEIGHTS = "model.safetensors"
SIZE = 1_000_001
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment, without any proxy of this machine's."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
async def test_all_goes_through_the_http_proxy(
    tmp_path: Path, env: pytest.MonkeyPatch, name: str
) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    async with FarHub(tmp_path / "hub", token="hf_x") as hub, Proxy(hub.ports) as proxy:
        env.setenv(name, proxy.url)
        service = make_service(tmp_path / "home", hub.endpoint, cache, token="hf_x")
        async with running(service):
            job, _ = await service.start(REPO)
            assert (await service.wait(job.id)).state is JobState.DONE
        assert {host for _method, host in proxy.seen} == {HUB, CDN}
        assert ("HEAD", HUB) in proxy.seen
        assert ("GET", CDN) in proxy.seen
        assert not any(s.authorized for s in hub.requests if s.server == "cdn")
    assert_in_cache(folder, cache, WEIGHTS, "config.json")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
async def test_tls_goes_through_tunnels_with_the_users_certificates(
    tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    certificate = certify(tmp_path)
    env.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    async with FarHub(tmp_path / "hub", certificate, "hf_x") as hub, Proxy(hub.ports) as proxy:
        env.setenv("https_proxy", proxy.url)
        service = make_service(tmp_path / "home", hub.endpoint, cache, token="hf_x")
        async with running(service):
            job, _ = await service.start(REPO)
            job = await service.wait(job.id)
            assert (job.state, job.error) == (JobState.DONE, None)
        assert set(proxy.seen) == {("CONNECT", HUB), ("CONNECT", CDN)}
        assert not any(s.authorized for s in hub.requests if s.server == "cdn")
    assert_in_cache(folder, cache, WEIGHTS, "config.json")


async def test_no_proxy_where_none_is_wanted(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    folder, cache = make_repo(tmp_path / "hub", SIZE), tmp_path / "cache"
    env.setenv("http_proxy", NOWHERE)
    env.setenv("no_proxy", "example.org,127.0.0.1")
    async with (
        DemoHub(tmp_path / "hub") as hub,
        running(make_service(tmp_path / "home", hub.endpoint, cache)) as service,
    ):
        job, _ = await service.start(REPO)
        job = await service.wait(job.id)
        assert (job.state, job.retries) == (JobState.DONE, 0)
    assert_in_cache(folder, cache, WEIGHTS)


@pytest.mark.parametrize("what", ["http url", "https url", "http hub", "https hub"])
async def test_a_proxy_that_wants_a_login_is_named_and_not_hammered(
    tmp_path: Path, env: pytest.MonkeyPatch, what: str
) -> None:
    scheme, _, kind = what.partition(" ")
    async with RawWeb(lambda _a: answer(407, {"Proxy-Authenticate": "Basic realm=x"})) as proxy:
        env.setenv(f"{scheme}_proxy", f"http://user:SECRET@127.0.0.1:{proxy.port}")
        home, endpoint = tmp_path / "home", f"{scheme}://hub.invalid"
        async with running(make_service(home, endpoint, tmp_path / "cache")) as service:
            if kind == "hub":
                job, _ = await service.start(REPO)
            else:
                url, output = f"{scheme}://files.invalid/f", str(tmp_path / "f")
                job, _ = await service.urls.start(url, "0" * 64, output)
            job = await service.wait(job.id)
        assert job.state is JobState.FAILED
        assert job.error is not None
        assert job.error.kind == "download.unauthorized"
        assert f"127.0.0.1:{proxy.port} ({scheme.upper()}_PROXY)" in job.error.message
        assert "SECRET" not in job.error.message
        assert len(proxy.seen) == 4


async def test_a_proxy_gets_its_login_with_each_request_and_the_server_does_not(
    tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    content = bytes(range(256)) * 2048
    login = "Basic " + base64.b64encode(b"user:p@ss").decode()

    def serve(asked: Asked) -> bytes:
        first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
        told = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return answer(206, told, content[first : last + 1])

    def serve_who_has_it(asked: Asked) -> bytes:
        if asked.headers.get("proxy-authorization") != login:
            return answer(407, {"Proxy-Authenticate": "Basic realm=x"})
        return serve(asked)

    async with RawWeb(serve_who_has_it) as proxy, RawWeb(serve) as direct:
        env.setenv("http_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        env.setenv("no_proxy", "127.0.0.1")
        service = make_service(tmp_path / "home", "http://hub.invalid", tmp_path / "cache")
        async with running(service):
            sha256, output = hashlib.sha256(content).hexdigest(), str(tmp_path / "f")
            job, _ = await service.urls.start(
                "http://files.invalid/f", sha256, output, chunk_bytes=65_536, workers=1
            )
            job = await service.wait(job.id)
            assert (job.state, job.retries) == (JobState.DONE, 0)
            assert len(proxy.seen) >= 8
            job, _ = await service.urls.start(direct.url(), sha256, str(tmp_path / "g"))
            assert (await service.wait(job.id)).state is JobState.DONE
    assert not any("proxy-authorization" in asked.headers for asked in direct.seen)


@pytest.mark.parametrize("kind", ["url", "hub"])
@pytest.mark.parametrize("there", [True, False])
async def test_a_proxy_that_lets_nobody_through_is_named(
    tmp_path: Path, env: pytest.MonkeyPatch, kind: str, there: bool
) -> None:
    bus = Bus()
    async with RawWeb(lambda _a: answer(403, {"Connection": "close"})) as proxy:
        place = f"127.0.0.1:{proxy.port}" if there else NOWHERE.removeprefix("http://")
        env.setenv("https_proxy", f"http://{place}")
        service = make_service(
            tmp_path / "home", "https://hub.invalid", tmp_path / "cache", bus=bus
        )
        async with running(service):
            told = asyncio.create_task(until(bus, lambda j: j.error is not None))
            if kind == "hub":
                await service.start(REPO)
            else:
                url, output = "https://files.invalid/f", str(tmp_path / "f")
                await service.urls.start(url, "0" * 64, output)
            shown = (await told).error
    assert shown is not None
    assert shown.kind == "download.network"
    assert f"{place} (HTTPS_PROXY)" in shown.message
