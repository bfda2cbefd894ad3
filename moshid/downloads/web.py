"""What a plain web server says of a file: its size, where redirects lead. Owns that exchange.

Plays the Hub's part in the download of a URL. Digest and path come from the user, so a server has
to tell no more than a length; nothing is sent that proves who asks.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from moshid import __version__
from moshid.downloads.answers import wait_s
from moshid.downloads.engine import Engine
from moshid.downloads.hub import Absent, Listing, RemoteFile
from moshid.downloads.ledger import Ledger
from moshid.downloads.redirects import get
from moshid.errors import (
    DownloadError,
    DownloadNetwork,
    DownloadNotFound,
    DownloadOffline,
    DownloadUnauthorized,
    InvalidParams,
)

REFUSALS_MAX: Final = 4
"""So often in a row may a server refuse before it means it: boxes on the way refuse, too."""

ASK_TIMEOUT_S: Final = 60.0
COUNTED_BYTES_MAX: Final = 4 << 30
"""A file whose size nobody tells is read through and counted, up to so many bytes."""

HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": f"moshid/{__version__}"}


class WebHub:
    """The server of a URL, asked as a Hub is. ``output``: what is right there need not be asked
    for."""

    def __init__(self, engine: Engine, output: Path) -> None:
        self._engine = engine
        self._output = output
        self._refusals = 0

    async def head(self, repo: str, revision: str, path: str) -> RemoteFile | Absent:
        """``repo``: the URL; ``revision``: the SHA-256."""
        size = await self._size_here()
        if size is not None:
            return RemoteFile(path, revision, revision, size, location=repo)
        if self._engine.offline:
            raise DownloadOffline(f"HF_HUB_OFFLINE is set, and {self._output} is not there")
        try:
            size, location = await self._ask(repo)
        except TimeoutError as e:
            raise DownloadNetwork(f"the server does not answer for {repo}") from e
        except aiohttp.InvalidURL as e:
            raise DownloadError(f"{repo} is no URL", hint="Check its spelling.") from e
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise DownloadNetwork(f"the server cannot be reached ({type(e).__name__})") from e
        self._refusals = 0
        return RemoteFile(path, revision, revision, size, location)

    async def config(self, _file: RemoteFile, _repo: str) -> dict[str, Any] | None:
        """There is none."""
        return None

    async def listing(self, _repo: str, revision: str) -> Listing:
        """The one file."""
        return Listing(revision, (str(self._output),))

    async def headers(self, _url: str) -> dict[str, str]:
        """The same for every server."""
        return dict(HEADERS)

    async def _size_here(self) -> int | None:
        """The size of the output, if its digest was verified before and it is still that file."""
        try:
            stat = await self._engine.disk.run(self._output.stat)
        except OSError:
            return None
        identity = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        known = await self._engine.ledger.call(Ledger.is_checked, str(self._output), *identity)
        return stat.st_size if known else None

    async def _ask(self, url: str) -> tuple[int, str]:
        """Size, and where the bytes are at the moment: by asking for the first one."""
        headers = HEADERS | {"Range": "bytes=0-0"}
        async with asyncio.timeout(ASK_TIMEOUT_S) as watchdog:
            async with await get(self._engine.session, str(sendable(url)), headers) as answer:
                self._refuse(answer, url)
                size = _size_told(answer)
                if size is None:
                    size = await _count(answer, watchdog)
                answer.close()
                return size, str(answer.url)

    def _refuse(self, answer: aiohttp.ClientResponse, url: str) -> None:
        """Raise unless the answer is the file, as far as one can see."""
        status = answer.status
        if status in (404, 410):
            raise DownloadNotFound(f"the server has no {url}", hint="Check the URL.")
        if status in (401, 403, 407, 451):
            self._refusals += 1
            if self._refusals >= REFUSALS_MAX:
                raise DownloadUnauthorized(
                    f"the server refuses {url} ({status})",
                    hint="moshid sends no password to a URL: give one that needs none.",
                )
        if status not in (200, 206, 416):
            raise DownloadNetwork(f"the server answered {status}", wait_s=wait_s(answer.headers))
        if answer.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise DownloadNetwork("the server encodes the file, though asked not to")
        page = answer.headers.get("Content-Type", "").lower().startswith("text/html")
        if page and not urlsplit(url).path.lower().endswith((".html", ".htm")):
            raise DownloadNetwork("a web page came, not the file (a portal that wants a login?)")


def _size_told(answer: aiohttp.ClientResponse) -> int | None:
    headers = answer.headers
    if answer.status == 200:
        text = headers.get("Content-Length", "")
    else:
        text = headers.get("Content-Range", "").rpartition("/")[2]
        if not text.strip().isdecimal():
            raise DownloadNetwork("the server's answer to a range has no size")
    return int(text) if text.strip().isdecimal() else None


async def _count(answer: aiohttp.ClientResponse, watchdog: asyncio.Timeout) -> int:
    """The size of a file whose length nobody tells, by reading it."""
    size, loop = 0, asyncio.get_running_loop()
    while piece := await answer.content.readany():
        size += len(piece)
        watchdog.reschedule(loop.time() + ASK_TIMEOUT_S)
        if size > COUNTED_BYTES_MAX:
            raise DownloadError(
                "the server does not tell the file's size, and it has no end in sight",
                hint="Find a server that sends a Content-Length.",
            )
    return size


def sendable(url: str) -> URL:
    """A URL as it goes over the line: what is quoted already stays as it is, signatures may hang
    on it."""
    return URL(url, encoded=url.isascii())


def check_url(url: str) -> str:
    """A URL as a client names it, without its fragment.

    Raises:
        InvalidParams: it is no http or https URL, or holds a password.
    """
    if any(c.isspace() or ord(c) < 32 for c in url):
        raise InvalidParams("url holds a space or a control character: quote it (%20)")
    try:
        parts = urlsplit(url)
        URL(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as e:
        raise InvalidParams(f"url is no URL: {e}") from e
    if parts.username is not None or parts.password is not None:
        raise InvalidParams("url holds a user name or a password: it would be shown to everybody")
    if not whole:
        raise InvalidParams("url is an http or https URL")
    return parts._replace(fragment="").geturl()
