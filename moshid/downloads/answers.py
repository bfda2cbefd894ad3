"""Whether an answer's bytes may be taken. Pure: status and headers in, a verdict out.

Bytes are taken only out of a range of the exact file that holds the beginning of what is wanted,
unencoded; one wrong byte in the headers rejects the attempt before anything is written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Final

from moshid.downloads.plan import ByteRange
from moshid.downloads.refusals import EMPTY

WAIT_MAX_S: Final = 600.0
"""A server may ask for patience, but not for ever."""

PROXY_WAIT_S: Final = 30.0
"""A proxy that wants another password is not to be asked often: it may lock the account."""

PREFIX_BYTES_MIN: Final = 4096
"""Less than that of a longer range is no progress worth a request."""

WIDER_BYTES_MAX: Final = 16 << 20
"""So far before what is asked for may a range begin: servers round to the blocks that they keep."""

BLOCK_BYTES_MIN: Final = 4096
AS_200: Final = 203
"""A 200 that somebody on the way had a hand in; the digest tells what he did."""

AS_STORED: Final = frozenset(
    {"", "identity", "none", "binary", "utf-8", "utf8", "7bit", "8bit", "raw"}
)
"""What servers call the encoding of a body that has none; the digest tells."""

SIZE_MAX: Final = 1 << 60

_CONTENT_RANGE = re.compile(
    r"(?:bytes *[ =:] *)?(\d{1,19}) *- *(\d{1,19}) */ *(\d+|\*)", re.IGNORECASE | re.ASCII
)
_RATELIMIT_T = re.compile(r"(?:^|[;,\s])t=(\d+)")


class Verdict(Enum):
    """What to do with an answer."""

    TAKE = auto()
    WHOLE = auto()
    """The whole file, perhaps called a range, where another was asked for: a broken answer, or a
    server without ranges."""
    RENEW = auto()
    """The URL is no longer good: ask the Hub for a new one."""
    WAIT = auto()
    """The server is busy, or wants fewer requests."""
    WRONG = auto()
    """Not the bytes asked for: try again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict, its reason in words, and how long the server wants to be left alone. ``start`` and
    ``stop``: the positions from and up to which a taken answer goes; ``other_size``: it is from a
    file of another size; ``no_ranges``: the range itself was refused; ``misplaced``: other bytes
    than those, or nobody says which."""

    verdict: Verdict
    reason: str = ""
    wait_s: float | None = None
    start: int = 0
    stop: int = 0
    other_size: bool = False
    no_ranges: bool = False
    misplaced: bool = False


def judge(
    status: int, headers: Mapping[str, str], want: ByteRange, total: int, encoding: str = ""
) -> Answer:
    """Judge the answer to a GET of ``want`` from a file of ``total`` bytes; ``encoding``: what the
    file's bytes are called where they are stored so.

    200 is taken with the right Content-Range, or where the whole file was wanted and is all there.
    A range may be the beginning of what was wanted (RFC 9110, 15.3.7), begin a little before it and
    end after it, and need not tell the total.
    A length need not be told (a chunked body has none); the taker stops where the range does.
    """
    status = 200 if status == AS_200 else status
    if status == 407:
        return Answer(Verdict.WAIT, "the proxy wants a login (407)", PROXY_WAIT_S)
    if status in (429, 503):
        return Answer(Verdict.WAIT, f"the server answered {status}", wait_s(headers))
    if status in EMPTY or 300 <= status < 400:  # led on by a Location, it would not be here
        return Answer(Verdict.RENEW, f"the URL answered {status}, without a file")
    if status in (400, 401, 403, 404, 410, 416):
        return Answer(Verdict.RENEW, f"the URL answered {status}", no_ranges=status == 416)
    if status not in (200, 206):
        return Answer(Verdict.WRONG, f"the server answered {status}")
    given = headers.get("Content-Encoding", "").strip().lower()
    if given not in AS_STORED and given != encoding:
        return Answer(Verdict.WRONG, f"the answer is encoded ({given})")
    length = headers.get("Content-Length")
    if (told := headers.get("Content-Range")) is not None:
        return _judge_range(told, length, want, total)
    if status == 200 and _is_whole(length, headers, total):
        return _whole(want, total)
    reason = f"{status} without a Content-Range, {length} bytes long"
    misplaced = status == 206 or (length or "").strip() == str(want.size)
    other = not misplaced and length is not None and not _is_page(headers)
    return Answer(Verdict.WRONG, reason, other_size=other, misplaced=misplaced)


def _judge_range(given: str, length: str | None, want: ByteRange, total: int) -> Answer:
    found = _CONTENT_RANGE.fullmatch(given.strip())
    if found is not None and found[3] != "*" and told_size(found[3]) != total:
        reason = f"the answer is {given}, of another file than one of {total} bytes"
        return Answer(Verdict.WRONG, reason, other_size=True)
    of_all = found is not None and (int(found[1]), int(found[2])) == (0, total - 1)
    if of_all and length in (None, str(total)):
        return _whole(want, total)
    start, stop = (0, 0) if found is None else (int(found[1]), int(found[2]) + 1)
    if not _holds(start, stop, want, total):
        reason = f"the answer is {given}, not {want.content_range(total)}"
        return Answer(Verdict.WRONG, reason, misplaced=True)
    if length is not None and length.strip() != str(stop - start):
        reason = f"the answer has {length} bytes, not {stop - start}"
        return Answer(Verdict.WRONG, reason, misplaced=True)
    return Answer(Verdict.TAKE, start=start, stop=stop)


def _holds(start: int, stop: int, want: ByteRange, total: int) -> bool:
    """Whether a range has the beginning of what is wanted, and is what a server would say: one that
    rounds gives whole blocks, and all that was asked for; any other beginning is a slip."""
    if start == want.start:
        return min(want.size, PREFIX_BYTES_MIN) <= stop - start and stop <= total
    rounded = start % BLOCK_BYTES_MIN == 0 and want.start - WIDER_BYTES_MAX <= start < want.start
    return rounded and want.stop <= stop <= total


def _whole(want: ByteRange, total: int) -> Answer:
    verdict = Verdict.TAKE if want == ByteRange(0, total) else Verdict.WHOLE
    return Answer(verdict, "the server gave the whole file, not the range", stop=total)


def _is_whole(length: str | None, headers: Mapping[str, str], total: int) -> bool:
    """Whether a 200 may be the file: as long as that, or, where nobody tells, no page of HTML."""
    if length is not None:
        return length.strip() == str(total)
    return not _is_page(headers)


def _is_page(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Type", "").lower().startswith("text/html")


def told_size(text: str | None) -> int | None:
    """A size as a header tells it; None: it tells none, or one that no file has."""
    text = (text or "").strip()
    size = int(text) if text.isdecimal() and len(text) < 20 else None
    return size if size is None or size <= SIZE_MAX else None


def wait_s(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """How long ``Retry-After`` (seconds or a date) or ``RateLimit: ...;t=N`` asks to wait. A date
    is one of the server's clock, as is ``Date``: ours may be wrong."""
    if after := headers.get("Retry-After", "").strip():
        if after.isdecimal():
            return min(float(after), WAIT_MAX_S)
        at_s, server_s = _epoch_s(after), _epoch_s(headers.get("Date", ""))
        if at_s is None:
            return None
        own_s = time.time() if now_s is None else now_s
        return min(max(0.0, at_s - (own_s if server_s is None else server_s)), WAIT_MAX_S)
    if found := _RATELIMIT_T.search(headers.get("RateLimit", "")):
        return min(float(found[1]), WAIT_MAX_S)
    return None


def _epoch_s(date: str) -> float | None:
    """A date without a zone is GMT (RFC 9110, 5.6.7), not of the zone that we are in."""
    try:
        at = parsedate_to_datetime(date)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
