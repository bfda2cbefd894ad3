"""Which proxy a URL is asked through, by the environment, and what to say when that refuses."""

from __future__ import annotations

import sys
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import BasicAuth
from aiohttp.hdrs import PROXY_AUTHORIZATION

LOGIN: Final = 407


def proxy_for(url: str) -> str | None:
    """The proxy, as a user knows it: its host and port, and the variable that names it; never the
    password in there."""
    found = _found(url)
    if found is None:
        return None
    named, place = found
    shown = place.rpartition("@")[2].removeprefix(f"{urlsplit(place).scheme}://").rstrip("/")
    return f"{shown} ({named.upper()}_PROXY)"


def login(url: str) -> dict[str, str]:
    """The header with the user's name and password for the proxy, where it reads our headers, since
    nothing is encrypted. aiohttp (3.11) sends it once a connection, and proxies ask each time."""
    found = _found(url) if urlsplit(url).scheme.lower() == "http" else None
    if found is None or (user := urlsplit(found[1]).username) is None:
        return {}
    password = unquote(urlsplit(found[1]).password or "")
    return {PROXY_AUTHORIZATION: BasicAuth(unquote(user), password).encode()}


def _found(url: str) -> tuple[str, str] | None:
    """What it is asked through: the scheme that the variable names, and its value."""
    parts = urlsplit(url)
    scheme, proxies = parts.scheme.lower(), getproxies()
    named = scheme if scheme in proxies else "all"
    place = proxies.get(named)
    if not place or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return named, place


def has_proxies() -> bool:
    """Whether requests have to look for theirs: on macOS, where the system's settings may change at
    any time, and where this process was given any."""
    return sys.platform == "darwin" or bool(getproxies())


def refusal(url: str, status: int) -> str:
    """What a proxy's refusal says."""
    proxy = proxy_for(url) or "on the way"
    what = "wants a login" if status == LOGIN else "refuses the connection"
    return f"the proxy {proxy} {what} ({status})"


LOGIN_HINT: Final = (
    "Put a right user and password into the variable named, restart the daemon, and resume."
)
