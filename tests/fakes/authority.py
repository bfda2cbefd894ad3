"""A certificate authority of the test's own, and servers' certificates under it. openssl makes
them. Blocking."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

LONG_AGO = ("20000101000000Z", "20010101000000Z")

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes them")


class Authority:
    """Keeps its key in ``folder``; ``certificate``: what is to be trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.certificate = folder / "ca.pem"
        (folder / "index").touch()
        (folder / "conf").write_text(
            f"[ca]\ndefault_ca=us\n[us]\ndatabase={folder}/index\nnew_certs_dir={folder}\n"
            "rand_serial=yes\ndefault_md=sha256\npolicy=any\ndefault_days=2\n"
            "[any]\ncommonName=supplied\n"
        )
        new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=us")
        self._openssl(*new, "-keyout", "ca.key", "-out", "ca.pem")

    def context(
        self, name: str, alias: str, valid: tuple[str, str] | None = None
    ) -> ssl.SSLContext:
        """What a server of that ``name`` does TLS over; ``alias``: a subjectAltName; ``valid``:
        from and to, as openssl writes times."""
        folder = self._folder
        request = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}")
        self._openssl(*request, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"subjectAltName={alias}\n")
        times = ("-startdate", valid[0], "-enddate", valid[1]) if valid else ()
        made = ("-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", f"{name}.ext")
        us = ("-config", "conf", "-cert", "ca.pem", "-keyfile", "ca.key")
        self._openssl("ca", "-batch", "-notext", *us, *times, *made)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        return context

    def as_folder(self) -> Path:
        """A folder of trusted certificates, as OpenSSL looks them up."""
        place = self._folder / "trusted"
        place.mkdir()
        by = self._openssl("x509", "-in", "ca.pem", "-noout", "-hash").strip()
        shutil.copy(self.certificate, place / f"{by}.0")
        return place

    def _openssl(self, *line: str) -> str:
        ran = subprocess.run(
            ["openssl", *line], cwd=self._folder, check=True, capture_output=True, text=True
        )
        return ran.stdout
