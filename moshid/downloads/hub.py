"""What the Hub says: commits, digests, sizes, signed URLs, listings. Owns the talk with /resolve.

Everything goes through huggingface_hub (its headers, tokens, proxies, endpoint), in threads with
time-outs; its errors become ours here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import hf_hub_url
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import get_session
from requests.exceptions import ProxyError, TooManyRedirects

from moshid.downloads import proxies
from moshid.downloads.answers import wait_s
from moshid.downloads.cache import COMMIT, check_repo_path
from moshid.downloads.certificates import have_requests_trust_them
from moshid.downloads.digests import check_etag, is_digest, whole_hasher
from moshid.downloads.hedge import hedged
from moshid.downloads.interim import Waiting, pass_over_interim_answers
from moshid.downloads.refusals import FINAL, Refusals
from moshid.downloads.remote import Absent as Absent
from moshid.downloads.remote import Hub as Hub
from moshid.downloads.remote import Listing as Listing
from moshid.downloads.remote import RemoteFile as RemoteFile
from moshid.downloads.resolve import ask
from moshid.downloads.unreached import unreached
from moshid.errors import (
    DigestMismatch,
    DownloadError,
    DownloadGated,
    DownloadNetwork,
    DownloadNotFound,
    DownloadOffline,
    DownloadUnauthorized,
    MoshidError,
)
from moshid.setting_values import absolute
from moshid.threads import Threads

T = TypeVar("T")

HEAD_GAPS_S: Final = (1.5, 3.0)
"""A HEAD, which every connection may be waiting for, is sent again after such silences."""

THREADS: Final = 12

SAID_MAX: Final = 300
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d+)")

DISABLED_HINT: Final = "Look at the repository's page; perhaps another one has the same model."
REFUSED_HINT: Final = "See what the Hub says, and HF_ENDPOINT; then resume the job."

CONFIG_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class HubPlace:
    """Which Hub and which cache. ``token``: None for what huggingface_hub finds by itself, False
    for none at all."""

    endpoint: str
    cache_dir: Path
    offline: bool = False
    token: str | bool | None = None

    def at(self, endpoint: str) -> HubPlace:
        """Another endpoint, which is not to see the token."""
        return HubPlace(endpoint, self.cache_dir, self.offline, token=False)

    @classmethod
    def from_environment(cls) -> HubPlace:
        """As huggingface_hub has read HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.

        Raises:
            BadSettings: the cache is relative to a folder that is gone.
        """
        cache = absolute(constants.HF_HUB_CACHE, "the Hub cache (HF_HOME, HF_HUB_CACHE)")
        return cls(constants.ENDPOINT, cache, bool(constants.HF_HUB_OFFLINE))


class HfHub:
    """The Hub at ``place.endpoint``."""

    waiting: ClassVar[type[Waiting]] = Waiting

    def __init__(self, place: HubPlace) -> None:
        self._place = place
        self._threads = Threads(THREADS, thread_name_prefix="hub")
        self._refusals = Refusals()
        pass_over_interim_answers()
        have_requests_trust_them()

    def close(self) -> None:
        """Ask nothing more; questions under way end by their own time-outs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def head(self, repo: str, revision: str, path: str) -> RemoteFile | Absent:
        """A file's metadata, by HEAD on /resolve."""
        what = f"{repo} at {revision} ({path})"
        return await self._ask(lambda: self._head(repo, revision, path), what, HEAD_GAPS_S)

    async def config(self, file: RemoteFile, repo: str) -> dict[str, Any] | None:
        """A small JSON file's content, its digest checked."""
        return await self._ask(lambda: self._config(file), f"{repo}/{file.path}")

    async def listing(self, repo: str, revision: str) -> Listing:
        """All paths of the repository, through HfApi."""
        return await self._ask(lambda: self._listing(repo, revision), f"{repo} at {revision}")

    async def headers(self, url: str) -> dict[str, str]:
        """As huggingface_hub sends them; without the token to any other origin than the Hub's."""
        return await self._ask(lambda: self._headers(url), url)

    def _headers(self, url: str) -> dict[str, str]:
        if self._place.token is None and Path(constants.HF_TOKEN_PATH).is_fifo():
            why = f"the token's file {constants.HF_TOKEN_PATH} is a FIFO, and is not waited for"
            raise DownloadUnauthorized(why, hint="Remove it; log in anew if you need a token.")
        headers = dict(build_hf_headers(token=self._place.token))
        headers["Accept-Encoding"] = "identity"
        if not url.startswith(f"{self._place.endpoint}/"):
            headers.pop("authorization", None)
        return headers

    def _head(self, repo: str, revision: str, path: str) -> RemoteFile | Absent:
        url = hf_hub_url(
            repo, check_repo_path(path), revision=revision, endpoint=self._place.endpoint
        )
        pinned = revision if COMMIT.fullmatch(revision) else None
        try:
            told = ask(url, self._headers)
        except HfHubHTTPError as e:
            if (absent := _absent(e)) is None:
                raise
            return Absent(absent.commit or pinned)
        if told.size is None or (told.commit is None and not is_digest(told.etag)):
            raise DownloadNetwork(f"the answer for {repo}/{path} is not a Hub's")
        etag = check_etag(told.etag, f"{repo}/{path}")
        commit = told.commit or pinned or self._listing(repo, revision).commit
        return RemoteFile(path, commit, etag, told.size, told.location, url)

    def _config(self, file: RemoteFile) -> dict[str, Any] | None:
        if file.size > CONFIG_BYTES_MAX:
            return None
        answer = get_session().get(
            file.location,
            headers=self._headers(file.location),
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        )
        answer.raise_for_status()
        content: bytes = answer.content
        hasher = whole_hasher(file.etag, file.size)
        hasher.update(content)
        if hasher.hexdigest() != file.etag:
            raise DigestMismatch(f"{file.path} did not arrive as the Hub describes it")
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, dict) else None

    def _listing(self, repo: str, revision: str) -> Listing:
        api = HfApi(endpoint=self._place.endpoint, token=self._place.token)
        info = api.model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        if info.sha is None:
            raise DownloadNetwork(f"the listing of {repo} is not a Hub's")
        return Listing(info.sha, tuple(s.rfilename for s in info.siblings or []))

    async def _ask(self, question: Callable[[], T], what: str, gaps_s: Sequence[float] = ()) -> T:
        """Bounds what requests' time-outs do not: a resolver that hangs, an answer that drips."""
        loop, waiting = asyncio.get_running_loop(), self.waiting()

        def ask_once() -> T:
            with waiting.in_this_thread():
                return question()

        asking = hedged(lambda: loop.run_in_executor(self._threads, ask_once), gaps_s)
        try:
            found = await waiting.bound(asking)
        except TimeoutError as e:
            raise DownloadNetwork(f"the Hub does not answer for {what}") from e
        except (HFValidationError, OSError, ValueError) as e:
            raise self._failed(e, what) from e
        self._refusals.over(what)
        return found

    def _failed(self, error: Exception, what: str) -> MoshidError:
        """An answer that is rather a box's on the way than the Hub's is a no only when it is given
        again and again."""
        if isinstance(error, ProxyError):
            found = _TUNNEL_REFUSED.search(str(error))
            status = int(found[1]) if found else 0
        else:
            status = getattr(getattr(error, "response", None), "status_code", 0)
        told = translate(error, what)
        if status == proxies.LOGIN:
            why = proxies.refusal(self._place.endpoint, status)
            told = DownloadUnauthorized(why, hint=proxies.LOGIN_HINT)
        elif isinstance(error, ProxyError):
            return _through_proxy(self._place.endpoint, status)
        elif status not in FINAL and not isinstance(error, TooManyRedirects):
            return told
        gap_s = self._refusals.again(what)
        return told if gap_s is None else DownloadNetwork(told.message, wait_s=gap_s)


def _through_proxy(endpoint: str, status: int) -> DownloadNetwork:
    if status:
        return DownloadNetwork(proxies.refusal(endpoint, status))
    return DownloadNetwork(f"the proxy {proxies.proxy_for(endpoint)} cannot be reached")


def _absent(error: HfHubHTTPError) -> Absent | None:
    """What a refusal says if it says that there is no such file. Not every server gives a code with
    its 404; then it is left to the listing whether there is such a repository."""
    answer = error.response
    if answer is None or isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return None
    if not isinstance(error, EntryNotFoundError) and answer.status_code != 404:
        return None
    return Absent(answer.headers.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT))


def translate(error: Exception, what: str) -> MoshidError:
    """An exception of huggingface_hub or requests (whose own are all OSError) as one of ours."""
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadOffline(f"HF_HUB_OFFLINE is set, and {what} is not in the cache")
    if isinstance(error, TooManyRedirects):
        return DownloadError(f"{what} leads in a circle of redirects", hint=REFUSED_HINT)
    if isinstance(error, HfHubHTTPError) or getattr(error, "response", None) is not None:
        return _http_error(error, what)
    if isinstance(error, HFValidationError):
        return DownloadNotFound(f"{what!r} names no repository: {error}")
    if isinstance(error, ValueError):
        return DownloadError(f"{what} cannot be asked for: {error}", hint="Check HF_ENDPOINT.")
    return unreached("the Hub", error)


def _shown(said: str) -> str:
    """What a server says, fit for a terminal: nothing in it moves the cursor, nor fills pages."""
    return "".join(c for c in said if c.isprintable())[:SAID_MAX]


def _http_error(error: Exception, what: str) -> MoshidError:
    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", 0)
    headers = {} if answer is None else answer.headers
    said = _shown(headers.get("X-Error-Message", ""))
    more = f": {said}" if said else ""
    if isinstance(error, DisabledRepoError):
        return DownloadError(f"the Hub has disabled {what}{more}", hint=DISABLED_HINT)
    if isinstance(error, GatedRepoError):
        return DownloadGated(f"{what} wants its terms accepted first")
    if isinstance(error, RevisionNotFoundError):
        return DownloadNotFound(f"the repository has no such revision: {what}")
    if isinstance(error, RepositoryNotFoundError) and status != 401:
        return DownloadNotFound(f"the Hub has no such repository: {what}")
    if answer is not None and status == 401 and "Authorization" not in answer.request.headers:
        return DownloadNotFound(
            f"the Hub shows strangers no {what}",
            hint="Check the spelling; if it is private, log in (huggingface-cli login).",
        )
    if status == 401:
        return DownloadUnauthorized(f"the Hub does not accept the token for {what}")
    if status == 404:
        return DownloadNotFound(f"the Hub has no {what}")
    if status == 403 and said:
        return DownloadGated(f"the Hub refuses access to {what}{more}")
    if status == 410:
        return DownloadNotFound(f"the Hub no longer has {what}{more}")
    if status in FINAL:
        return DownloadError(f"the Hub refuses {what} ({status}){more}", hint=REFUSED_HINT)
    return DownloadNetwork(f"the Hub answered {status} for {what}", wait_s=wait_s(headers))
