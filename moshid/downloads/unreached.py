"""Why nobody was reached, or nobody who makes sense, in words that a user can act on. Pure."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import aiohttp

from moshid.errors import DownloadNetwork

CERTIFICATE_HINT: Final = (
    "Is a login page or a filter in between, or this machine's clock wrong? A certificate of your "
    "own: name its file in REQUESTS_CA_BUNDLE, and restart the daemon."
)
TRUST_HINT: Final = (
    "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a file or folder of PEM certificates, or is unset; "
    "then restart the daemon."
)
NO_CERTIFICATES: Final = "NO_CERTIFICATE_OR_CRL_FOUND"
TLS_HINT: Final = (
    "Check the address (https or http, port) and what is in between; it goes on by itself."
)
NAME_HINT: Final = "Check the spelling of the host, and the line; it goes on by itself."


def unreached(who: str, error: BaseException) -> DownloadNetwork:
    """What to tell of ``who``, whom a question did not reach for this error."""
    why, hint = _why(error)
    return DownloadNetwork(f"{who} {why}", hint=hint)


def _why(error: BaseException) -> tuple[str, str | None]:
    for cause in _causes(error):  # aiohttp's own are of ssl's classes, but say nothing
        if said := getattr(cause, "verify_message", ""):
            return f"shows a certificate that is not trusted ({said.rstrip('.')})", CERTIFICATE_HINT
        missing = "CA certificate bundle" in str(cause)  # as requests says it
        if missing or getattr(cause, "reason", None) == NO_CERTIFICATES:
            return "cannot be asked: the certificates that are named cannot be used", TRUST_HINT
        if isinstance(cause, socket.gaierror):
            return "cannot be reached: its name is not found", NAME_HINT
        if isinstance(cause, ssl.SSLError) and (said := getattr(cause, "reason", None)):
            said = said.replace("_", " ").lower()
            return f"cannot be reached over TLS ({said})", TLS_HINT
        if isinstance(cause, aiohttp.ClientResponseError) and cause.status == 400:
            said = cause.message.partition("\n")[0].strip().rstrip(":")
            return f"answers what is no proper HTTP ({said})", TLS_HINT
        if isinstance(cause, OSError) and (code := cause.errno or 0) in errno.errorcode:
            return f"cannot be reached ({os.strerror(code).lower()})", None
    return f"cannot be reached ({type(error).__name__})", None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those inside it: as its cause or context, its reason or its arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        at = waiting.pop(0)
        if id(at) in seen:
            continue
        seen.add(id(at))
        yield at
        inner = (at.__cause__, at.__context__, getattr(at, "reason", None), *at.args)
        waiting += [e for e in inner if isinstance(e, BaseException)]
