"""The demo's Hub under names that nobody can resolve, over TLS if wanted; and one whose ``main``
moves on.
"""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from aiohttp import web

from moshid.demo.hub import HOST, DemoHub
from moshid.demo.hub_files import Entry, Repo, RepoFolder

HUB, CDN = "hub.invalid", "cdn.invalid"


class FarHub(DemoHub):
    """Calls itself ``hub.invalid``, its CDN ``cdn.invalid``. ``certificate``: see ``certify``."""

    def __init__(
        self, root: Path, certificate: Path | None = None, token: str | None = None
    ) -> None:
        super().__init__(root, token=token)
        self._tls = None
        if certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(certificate)

    @property
    def endpoint(self) -> str:
        return f"{'https' if self._tls else 'http'}://{HUB}"

    @property
    def ports(self) -> dict[str, int]:
        """For the proxy."""
        return {HUB: self.port, CDN: self.cdn_port}

    async def _serve(self, app: web.Application, port: int) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, HOST, port, ssl_context=self._tls).start()
        return int(runner.addresses[0][1])

    def _sign(self, entry: Entry) -> str:
        near = f"http://{HOST}:{self.cdn_port}/"
        far = f"{'https' if self._tls else 'http'}://{CDN}/"
        return super()._sign(entry).replace(near, far)


def certify(folder: Path) -> Path:
    """A key and a certificate, signed by itself, for both names, in one file."""
    both, key = folder / "certificate.pem", folder / "key.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={HUB}", "-addext", f"subjectAltName=DNS:{HUB},DNS:{CDN}"]
    files = ["-keyout", str(key), "-out", str(both)]
    subprocess.run(["openssl", *made, *names, *files], check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + key.read_bytes())
    return both


class PushedHub(DemoHub):
    """``main`` is what ``old`` holds, and after so many questions what ``new`` holds; each commit
    stays what it is."""

    def __init__(self, old: Path, new: Path, *, after: int, rate_bps: float | None = None) -> None:
        super().__init__(old, rate_bps=rate_bps)
        self.after = after
        self.questions = 0
        self._new = RepoFolder(new)

    def commits(self, name: str) -> dict[str, Repo]:
        """Both states of a repository, by commit. Blocking, the first time."""
        both = (self._repos.load(name), self._new.load(name))
        return {r.commit: r for r in both if r is not None}

    async def _repo(self, request: web.Request) -> Repo:
        self._see("hub", request)
        known = self.commits(f"{request.match_info['org']}/{request.match_info['name']}")
        old, new = known.values()
        known["main"] = old if self.questions < self.after else new
        self.questions += 1
        return known[request.match_info.get("rev", "main")]
