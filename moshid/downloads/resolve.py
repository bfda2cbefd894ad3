"""The exchange with /resolve: what a Hub says of one file, in whichever legal way it says it.

Commit, digest, size and place of the bytes may come with the first answer or with a later one of a
chain of redirects, relative or absolute; a length may be missing. Blocking; raises what
huggingface_hub and requests raise. Knows no errors of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urljoin

from huggingface_hub import constants
from huggingface_hub.utils._http import get_session, hf_raise_for_status
from requests import Response, TooManyRedirects

from moshid.downloads.answers import told_size
from moshid.downloads.digests import is_digest, whole_hasher
from moshid.downloads.redirects import quoted

REDIRECTS_MAX: Final = 8
COUNTED_BYTES_MAX: Final = 64 << 20
"""A file whose size nobody tells is read through and counted, up to so many bytes."""

HUBS_REASONS: Final = ("X-Error-Code", "X-Error-Message")

Headers = Callable[[str], dict[str, str]]
"""URL → what to send there; the token goes to the Hub only."""


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of a file; None where nobody told it."""

    location: str
    commit: str | None = None
    etag: str | None = None
    size: int | None = None


def ask(url: str, headers: Headers) -> Told:
    """HEAD on ``url`` and on where it leads, until somebody names the digest or gives the file."""
    told = Told(url)
    for _ in range(REDIRECTS_MAX):
        answer = _head(told.location, headers(told.location))
        hf_raise_for_status(answer)
        told = _with(told, answer)
        if not answer.is_redirect or is_digest(told.etag):
            return _sized(told, headers)
    raise TooManyRedirects(f"{url} leads in a circle")


def _head(url: str, headers: dict[str, str]) -> Response:
    """The answer to a HEAD; from a gateway that knows or allows none (a 403 that no Hub explains),
    the head of a GET's."""
    how: Any = {"allow_redirects": False, "timeout": constants.HF_HUB_ETAG_TIMEOUT}
    answer = get_session().head(url, headers=headers, **how)
    silent = answer.status_code == 403 and not any(h in answer.headers for h in HUBS_REASONS)
    if silent or answer.status_code in (405, 501):
        first = headers | {"Range": "bytes=0-0"}
        with get_session().get(url, headers=first, stream=True, **how) as answer:
            return answer
    return answer


def _with(told: Told, answer: Response) -> Told:
    """What is known after one more answer; what was said first counts."""
    given, location, size = answer.headers, told.location, told.size
    etag = given.get(constants.HUGGINGFACE_HEADER_X_LINKED_ETAG) or given.get("ETag")
    if size is None:
        size = told_size(given.get(constants.HUGGINGFACE_HEADER_X_LINKED_SIZE))
    if answer.is_redirect:
        location = urljoin(location, _readable(given["Location"]))
    elif size is None and answer.status_code in (206, 416):
        size = told_size(given.get("Content-Range", "").rpartition("/")[2])
    elif size is None and "Content-Encoding" not in given:
        size = told_size(given.get("Content-Length"))
    return replace(
        told,
        location=location,
        commit=told.commit or given.get(constants.HUGGINGFACE_HEADER_X_REPO_COMMIT),
        etag=told.etag if is_digest(told.etag) else _bare(etag),
        size=size,
    )


def _sized(told: Told, headers: Headers) -> Told:
    """With the size asked for where the bytes are, if it is not known (0 is often a HEAD that
    counts its own body)."""
    etag = told.etag
    if etag is None or not is_digest(etag):
        return told
    if told.size is None or (told.size == 0 and whole_hasher(etag, 0).hexdigest() != etag):
        return replace(told, size=_measure(told.location, headers))
    return told


def _measure(url: str, headers: Headers) -> int | None:
    """The size of the file at ``url``, by asking for its first byte."""
    asking = get_session().get(
        url,
        headers=headers(url) | {"Range": "bytes=0-0"},
        stream=True,
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
    )
    with asking as answer:
        given = answer.headers
        if answer.status_code in (206, 416):
            return told_size(given.get("Content-Range", "").rpartition("/")[2])
        hf_raise_for_status(answer)
        if "Content-Encoding" in given or given.get("Content-Type", "").startswith("text/html"):
            return None
        return told_size(given.get("Content-Length")) or _count(answer)


def _count(answer: Response) -> int | None:
    size = 0
    pieces: Any = answer.iter_content(1 << 20)
    for piece in pieces:
        size += len(piece)
        if size > COUNTED_BYTES_MAX:
            return None
    return size


def _bare(etag: str | None) -> str | None:
    """Without the mark of weakness and the quotes."""
    return None if etag is None else etag.strip().removeprefix("W/").strip('"')


def _readable(location: str) -> str:
    """A Location as a URL in ASCII; HTTP headers come as Latin-1 and may hold raw UTF-8."""
    return quoted(location.encode("latin-1", "ignore"))
