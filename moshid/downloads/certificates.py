"""Which certificates are trusted: those that the environment names, as requests reads it, else
certifi's. Blocking.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from typing import Final

import certifi

VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""The first that is set counts. The last one is for URLs; requests, which asks the Hub, passes it
over."""

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
