"""Why nobody was reached, or nobody who makes sense, in words that a user can act on. Pure."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Final

import aiohttp

from moshid.errors import DownloadNetwork

CERTIFICATE_HINT: Final = (
    "Is a login page or a filter in between, or this machine's clock wrong? A certificate of your "
    "own: name its file in SSL_CERT_FILE and REQUESTS_CA_BUNDLE, and restart the daemon."
)
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
        if isinstance(cause, socket.gaierror):
            return "cannot be reached: its name is not found", NAME_HINT
        if isinstance(cause, ssl.SSLError) and (said := getattr(cause, "reason", None)):
            said = said.replace("_", " ").lower()
            return f"cannot be reached over TLS ({said})", TLS_HINT
        if isinstance(cause, aiohttp.ClientResponseError) and cause.status == 400:
            said = cause.message.partition("\n")[0].strip().rstrip(":")
            return f"answers what is no proper HTTP ({said})", None
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
