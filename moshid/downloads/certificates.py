"""Which certificates are trusted: those that the environment names, as requests reads it, else
certifi's. Blocking.
"""

from __future__ import annotations

import errno
import logging
import os
import ssl
from collections.abc import Mapping
from typing import Final

import certifi
from huggingface_hub import configure_http_backend
from huggingface_hub.utils._http import _default_backend_factory
from requests import Session

OF_REQUESTS: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""What requests, which asks the Hub, reads by itself."""

VARIABLES: Final = (*OF_REQUESTS, "SSL_CERT_FILE", "SSL_CERT_DIR")
"""The first that is set counts."""

log = logging.getLogger(__name__)


def named(env: Mapping[str, str]) -> tuple[str, str] | None:
    """The variable that counts, and the file or folder that it names; None: there is none."""
    return next(((name, env[name]) for name in VARIABLES if env.get(name)), None)


def trusting(place: str | None) -> ssl.SSLContext:
    """Trusts the certificates of a file (PEM) or of a folder, as OpenSSL has them; None: certifi's.

    Raises:
        OSError: they cannot be used.
    """
    if place is not None and os.path.isdir(place):
        if not any(name.endswith(".0") for name in os.listdir(place)):
            raise FileNotFoundError(errno.ENOENT, "no certificates by their hashes", place)
        return ssl.create_default_context(capath=place)
    return ssl.create_default_context(cafile=place or certifi.where())


def trusting_as_named(env: Mapping[str, str]) -> ssl.SSLContext:
    """Trusts what the environment names, or, where that cannot be used, certifi's: the rest of
    moshid needs no certificates, and who is not trusted then is told as that."""
    if (found := named(env)) is None:
        return trusting(None)
    try:
        return trusting(found[1])
    except OSError as e:
        facts = {"variable": found[0], "path": found[1], "why": str(e)}
        log.warning("the certificates that are named cannot be used", extra=facts)
        return trusting(None)


def have_requests_trust_them() -> None:
    """For all sessions of huggingface_hub in this process: what requests itself passes over."""
    configure_http_backend(_session)


def _session() -> Session:
    session = _default_backend_factory()
    session.verify = _for_requests(os.environ)
    return session


def _for_requests(env: Mapping[str, str]) -> str | bool:
    """What to trust where requests finds nothing named; True: certifi's."""
    found = named(env)
    if found is None or found[0] in OF_REQUESTS:
        return True
    try:
        trusting(found[1])
    except OSError:
        return True
    return found[1]
