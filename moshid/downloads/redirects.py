"""A GET that follows redirects as signed URLs want it. Owns what is sent to whom on the way.

A Location goes over the line byte for byte; a cookie goes back to who set it, within one such walk,
and to nobody else: walls that only want to see their own cookie are passed, and remember nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Final
from urllib.parse import quote_from_bytes, urljoin

import aiohttp
from yarl import URL

from moshid.downloads.proxies import login

REDIRECTS: Final = (300, 301, 302, 303, 307, 308)
"""Followed where they have a Location; that of a 300 is the server's own choice."""

HOPS_MAX: Final = 8

_UNSENDABLE = re.compile(rb"[^!-~]+")
"""What no request line may hold: spaces, controls, all that is not ASCII."""


async def get(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]
) -> aiohttp.ClientResponse:
    """The answer at the end of the redirects. A redirect to nowhere is an answer, too.

    Raises:
        aiohttp.ClientError: no answer, or redirects without an end, or to what is no web server.
    """
    at, sent, cookies = URL(url, encoded=True), dict(headers), dict[URL, SimpleCookie]()
    for _ in range(HOPS_MAX + 1):
        told = _cookie(cookies.get(at.origin()))
        told |= login(str(at)) if session.trust_env else {}
        answer = await session.get(at, headers=sent | told, allow_redirects=False)
        location = answer.headers.get("Location", "").strip()
        if answer.status not in REDIRECTS or not location:
            return answer
        answer.release()
        cookies.setdefault(at.origin(), SimpleCookie()).update(answer.cookies)
        before, at = at, _led(at, location)
        if at.origin() != before.origin():
            sent = {k: v for k, v in sent.items() if k.lower() != "authorization"}
    raise aiohttp.TooManyRedirects(answer.request_info, (answer,))


def quoted(raw: bytes) -> str:
    """A URL as it goes over the line: what is quoted already stays as it is, signatures may hang
    on it; only what cannot be sent is quoted."""
    return _UNSENDABLE.sub(lambda m: quote_from_bytes(m[0]).encode(), raw).decode("ascii")


def _led(at: URL, location: str) -> URL:
    """Where a Location leads to."""
    there = quoted(location.encode("utf-8", "surrogateescape"))
    scheme = there.partition(":")[0].lower()
    try:
        led = URL(there if scheme in ("http", "https") else urljoin(str(at), there), encoded=True)
        str(led.origin())  # its port is looked at only now
    except ValueError as e:
        raise aiohttp.InvalidUrlRedirectClientError(location) from e
    if led.scheme not in ("http", "https"):
        raise aiohttp.NonHttpUrlRedirectClientError(location)
    return led


def _cookie(cookies: SimpleCookie | None) -> dict[str, str]:
    """The header that shows a server its own cookies."""
    if not cookies:
        return {}
    return {"Cookie": "; ".join(f"{m.key}={m.coded_value}" for m in cookies.values())}
