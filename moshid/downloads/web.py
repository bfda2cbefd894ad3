"""What a plain web server says of a file: its size, where redirects lead. Owns that exchange.

Plays the Hub's part in the download of a URL. Digest and path come from the user, so a server has
to tell no more than a length; nothing is sent that proves who asks.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from moshid import __version__
from moshid.downloads import proxies
from moshid.downloads.answers import AS_200, AS_STORED, told_size, wait_s
from moshid.downloads.digests import whole_hasher
from moshid.downloads.engine import Engine
from moshid.downloads.hub import Absent, Listing, RemoteFile
from moshid.downloads.ledger import Ledger
from moshid.downloads.redirects import REDIRECTS, get
from moshid.downloads.refusals import EMPTY, FINAL, OF_RANGES, Refusals
from moshid.downloads.unreached import unreached
from moshid.errors import (
    DownloadError,
    DownloadNetwork,
    DownloadNotFound,
    DownloadOffline,
    DownloadUnauthorized,
    InvalidParams,
)

ASK_TIMEOUT_S: Final = 60.0
CHECK_HINT: Final = "Check the URL in a browser; when it works there, resume."
COUNTED_BYTES_MAX: Final = 4 << 30
"""A file whose size nobody tells is read through and counted, up to so many bytes."""

HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": f"moshid/{__version__}"}


@dataclass(frozen=True, slots=True)
class _Told:
    """What a server tells of a file, as in ``RemoteFile``."""

    size: int
    location: str
    encoding: str
    ranges: bool


class WebHub:
    """The server of a URL, asked as a Hub is. ``output``: what is right there need not be asked
    for."""

    def __init__(self, engine: Engine, output: Path) -> None:
        self._engine = engine
        self._output = output
        self._refusals = Refusals()

    async def head(self, repo: str, revision: str, path: str) -> RemoteFile | Absent:
        """``repo``: the URL; ``revision``: the SHA-256."""
        size = await self._size_here()
        if size is not None:
            return RemoteFile(path, revision, revision, size, repo, repo)
        if self._engine.offline:
            raise DownloadOffline(f"HF_HUB_OFFLINE is set, and {self._output} is not there")
        try:
            found = await self._ask(repo)
        except TimeoutError as e:
            raise DownloadNetwork(f"the server does not answer for {repo}") from e
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise self._failed(repo, e) from e
        self._refusals.over(repo)
        if not found.size and whole_hasher(revision, 0).hexdigest() != revision:
            raise DownloadNetwork("the server says that the file is empty, which it is not")
        asked, told = str(sendable(repo)), asdict(found)
        return RemoteFile(path=path, commit=revision, etag=revision, asked=asked, **told)

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

    async def _ask(self, url: str) -> _Told:
        """By asking for the first byte, or, where that is refused or brings no size, for all."""
        refused = False
        async with asyncio.timeout(ASK_TIMEOUT_S) as watchdog:
            for asked in ({"Range": "bytes=0-0"}, {}):
                async with await self._get(url, asked) as answer:
                    size = _size_told(answer)
                    if asked and _is_in_doubt(answer.status, size):
                        refused = answer.status in OF_RANGES
                        answer.close()
                        continue
                    self._refuse(answer, url, size)
                    if size is None:
                        size = await _count(answer, watchdog)
                    answer.close()
                    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
                    ranges = not (refused and size > 1 and await self._refuses_ranges(url, size))
                    return _Told(size, str(answer.url), encoding, ranges)
        raise AssertionError("the second answer is taken or refused")

    async def _refuses_ranges(self, url: str, size: int) -> bool:
        """Whether parts are refused, where the first byte was and the whole was not: another part,
        or it is only that one; and all in turns, or it is only the moment."""
        part = {"Range": f"bytes={size // 2}-{size - 1}"}
        for asked in (part, {}, part):
            async with await self._get(url, asked) as answer:
                answer.close()
                if (answer.status in OF_RANGES) is not bool(asked):
                    return False
        return True

    async def _get(self, url: str, asked: dict[str, str]) -> aiohttp.ClientResponse:
        return await get(self._engine.session, str(sendable(url)), HEADERS | asked)

    def _refuse(self, answer: aiohttp.ClientResponse, url: str, size: int | None) -> None:
        """Raise unless the answer is the file, as far as one can see."""
        status, headers = answer.status, answer.headers
        if status == 404:
            raise DownloadNotFound(f"the server has no {url}", hint="Check the URL.")
        if (no := _no(url, status)) is not None:
            raise self._weighed(url, no)
        if status in (206, 416) and size is None:
            raise DownloadNetwork("the server tells no size of the file that could be right")
        if status not in (200, AS_200, 206, 416):
            raise DownloadNetwork(f"the server answered {status}", wait_s=wait_s(headers))
        if status in (206, 416):
            return  # a range is one of the file as it is stored, whatever its headers call it
        if headers.get("Content-Encoding", "").strip().lower() not in AS_STORED:
            raise DownloadNetwork("the server encodes the file, though asked not to")
        page = headers.get("Content-Type", "").lower().startswith("text/html")
        page = page and not headers.get("Content-Disposition", "").lower().startswith("attachment")
        if page and not urlsplit(url).path.lower().endswith((".html", ".htm")):
            raise DownloadNetwork("a web page came, not the file (a portal that wants a login?)")

    def _failed(self, url: str, e: Exception) -> DownloadError:
        """Why there was no answer."""
        if isinstance(e, aiohttp.TooManyRedirects | aiohttp.RedirectClientError):
            why = f"{url} leads in a circle, or to what is no web server"
            return self._weighed(url, DownloadError(why, hint=CHECK_HINT))
        if isinstance(e, aiohttp.InvalidURL):
            return DownloadError(f"{url} is no URL", hint="Check its spelling.")
        if isinstance(e, aiohttp.ClientHttpProxyError):
            if e.status == proxies.LOGIN:
                return self._weighed(url, _proxy_wants_login(url))
            return DownloadNetwork(proxies.refusal(url, e.status))
        if isinstance(e, aiohttp.ClientProxyConnectionError):
            return DownloadNetwork(f"the proxy {proxies.proxy_for(url)} cannot be reached")
        return unreached("the server", e)

    def _weighed(self, url: str, no: DownloadError) -> DownloadError:
        """A no, once it is believed; until then a reason to ask again."""
        gap_s = self._refusals.again(url)
        return no if gap_s is None else DownloadNetwork(no.message, wait_s=gap_s)


def _no(url: str, status: int) -> DownloadError | None:
    """What a status means for a URL, if it is meant."""
    if status == proxies.LOGIN:
        return _proxy_wants_login(url)
    if status in (401, 403):
        return DownloadUnauthorized(
            f"the server refuses {url} ({status})",
            hint="moshid sends no password to a URL: give one that needs none.",
        )
    if status == 410:
        return DownloadNotFound(f"the server no longer has {url}", hint="Check the URL.")
    if status in REDIRECTS:
        return DownloadError(f"{url} leads nowhere ({status} without a Location)", hint=CHECK_HINT)
    if status in EMPTY:
        return DownloadError(f"the server gives no file for {url} ({status})", hint=CHECK_HINT)
    if status in FINAL:
        return DownloadError(f"the server refuses {url} ({status})", hint=CHECK_HINT)
    return None


def _proxy_wants_login(url: str) -> DownloadError:
    return DownloadUnauthorized(proxies.refusal(url, proxies.LOGIN), hint=proxies.LOGIN_HINT)


def _size_told(answer: aiohttp.ClientResponse) -> int | None:
    size = told_size(answer.headers.get("Content-Range", "").rpartition("/")[2])
    if size is None and answer.status in (200, AS_200):
        return told_size(answer.headers.get("Content-Length"))
    return size


def _is_in_doubt(status: int, size: int | None) -> bool:
    """Whether an answer to the question for the first byte leaves the size open: a 200 of one byte
    is that byte, perhaps."""
    doubtful = status in (206, 416) or status in OF_RANGES
    return size == 1 if status in (200, AS_200) else size is None and doubtful


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
