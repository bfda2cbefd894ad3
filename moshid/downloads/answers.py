"""Whether an answer's bytes may be taken. Pure: status and headers in, a verdict out.

Bytes are taken only on the exact range of the exact file, unencoded; one wrong byte in the headers
rejects the attempt before anything is written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final

from moshid.downloads.plan import ByteRange

WAIT_MAX_S: Final = 600.0
"""A server may ask for patience, but not for ever."""

_RATELIMIT_T = re.compile(r"(?:^|[;,\s])t=(\d+)")


class Verdict(Enum):
    """What to do with an answer."""

    TAKE = auto()
    WHOLE = auto()
    """The whole file, where a range was asked for: a broken answer, or a server without ranges."""
    RENEW = auto()
    """The URL is no longer good: ask the Hub for a new one."""
    WAIT = auto()
    """The server is busy, or wants fewer requests."""
    WRONG = auto()
    """Not the bytes asked for: try again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, its reason in words, and how long the server wants to be left alone."""

    verdict: Verdict
    reason: str = ""
    wait_s: float | None = None


def judge(status: int, headers: Mapping[str, str], want: ByteRange, total: int) -> Answer:
    """Judge the answer to a GET of ``want`` from a file of ``total`` bytes.

    200 is taken with the exact Content-Range, or where the whole file was wanted and is all there.
    A length need not be told (a chunked body has none); the taker stops where the range does.
    """
    if status in (429, 503):
        return Answer(Verdict.WAIT, f"the server answered {status}", wait_s(headers))
    if status in (301, 302, 303, 307, 308, 400, 401, 403, 404, 410, 416):
        return Answer(Verdict.RENEW, f"the URL answered {status}")
    if status not in (200, 206):
        return Answer(Verdict.WRONG, f"the server answered {status}")
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        return Answer(Verdict.WRONG, f"the answer is encoded ({encoding})")
    length = headers.get("Content-Length")
    if (given := headers.get("Content-Range")) is not None:
        if " ".join(given.split()) != want.content_range(total):
            return Answer(Verdict.WRONG, f"the answer is {given}, not {want.content_range(total)}")
        if length is not None and length.strip() != str(want.size):
            return Answer(Verdict.WRONG, f"the answer has {length} bytes, not {want.size}")
        return Answer(Verdict.TAKE)
    if status == 200 and _is_whole(length, headers, total):
        verdict = Verdict.TAKE if want == ByteRange(0, total) else Verdict.WHOLE
        return Answer(verdict, "the server gave the whole file, not the range")
    return Answer(Verdict.WRONG, f"{status} without a Content-Range, {length} bytes long")


def _is_whole(length: str | None, headers: Mapping[str, str], total: int) -> bool:
    """Whether a 200 may be the file: as long as that, or, where nobody tells, no page of HTML."""
    if length is not None:
        return length.strip() == str(total)
    return not headers.get("Content-Type", "").lower().startswith("text/html")


def wait_s(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """How long ``Retry-After`` (seconds or a date) or ``RateLimit: ...;t=N`` asks to wait."""
    if after := headers.get("Retry-After", "").strip():
        if after.isdecimal():
            return min(float(after), WAIT_MAX_S)
        try:
            at_s = parsedate_to_datetime(after).timestamp()
        except ValueError:
            return None
        return min(max(0.0, at_s - (time.time() if now_s is None else now_s)), WAIT_MAX_S)
    if found := _RATELIMIT_T.search(headers.get("RateLimit", "")):
        return min(float(found[1]), WAIT_MAX_S)
    return None
