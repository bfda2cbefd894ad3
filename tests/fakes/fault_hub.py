"""A Hub whose CDN misbehaves by a script: each GET takes the next fault, until there are none.

The bytes that come with a fault are wrong ones, so that a client which takes them is found out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from aiohttp import web

from moshid.demo.hub import DemoHub

WRONG = b"\xee"


class Fault(StrEnum):
    """What goes wrong with one answer."""

    NONE = "none"
    WHOLE_FILE_200 = "200 and the whole file to a range request"
    SHIFTED_RANGE = "206 with another range"
    WRONG_TOTAL = "206 of a file of another size"
    SHORT = "206 with fewer bytes than asked for"
    GZIP = "206, encoded"
    PORTAL = "200 and a page of HTML"
    FORBIDDEN = "403 with a body"
    NOT_FOUND = "404"
    TOO_MANY = "429 with Retry-After"
    RATE_LIMIT = "429 with RateLimit"
    UNAVAILABLE = "503"
    SERVER_ERROR = "500"
    EARLY_END = "right headers, half of the body"
    STALL_BEFORE_HEADERS = "nothing at all"
    STALL_IN_BODY = "half of the body, then nothing"
    DRIP = "a byte now and then"
    FLIPPED = "right headers, one byte wrong"


class FaultHub(DemoHub):
    """``faults``: what the CDN does to its first GETs; ``hub_faults``: what the Hub does to its
    first questions. All files are wanted by Range."""

    def __init__(
        self, root: Path, faults: Iterable[Fault] = (), *, hub_faults: Iterable[Fault] = ()
    ) -> None:
        super().__init__(root)
        self.faults = deque(faults)
        self.hub_faults = deque(hub_faults)
        self.done: list[Fault] = []

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        fault = self.hub_faults.popleft() if self.hub_faults else Fault.NONE
        self.done.append(fault)
        answer = _refusal(fault, 0, 0, 1)
        return await super()._resolve(request) if answer is None else answer

    async def _object(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.popleft() if self.faults else Fault.NONE
        self.done.append(fault)
        if fault is Fault.NONE:
            return await super()._object(request)
        entry = self._by_sha256[request.match_info["sha256"]]
        first, last = (int(n) for n in request.headers["Range"][6:].split("-"))
        right = await asyncio.to_thread(entry.file.read_bytes)
        if (answer := _refusal(fault, first, last, entry.size)) is not None:
            return answer
        return await _broken_body(fault, request, first, right[first : last + 1], entry.size)


def _refusal(fault: Fault, first: int, last: int, total: int) -> web.Response | None:
    """Faults that show in status and headers."""
    size = last - first + 1
    body, ranged = WRONG * size, {"Content-Range": f"bytes {first}-{last}/{total}"}
    match fault:
        case Fault.WHOLE_FILE_200:
            return web.Response(body=WRONG * total)
        case Fault.SHIFTED_RANGE:
            shifted = {"Content-Range": f"bytes {first + 1}-{last + 1}/{total}"}
            return web.Response(status=206, headers=shifted, body=body)
        case Fault.WRONG_TOTAL:
            other = {"Content-Range": f"bytes {first}-{last}/{total + 1}"}
            return web.Response(status=206, headers=other, body=body)
        case Fault.SHORT:
            return web.Response(status=206, headers=ranged, body=body[:-1])
        case Fault.GZIP:
            encoded = ranged | {"Content-Encoding": "gzip"}
            return web.Response(status=206, headers=encoded, body=body)
        case Fault.PORTAL:
            return web.Response(text="<html>Log in to the café</html>", content_type="text/html")
        case Fault.FORBIDDEN:
            return web.Response(status=403, body=body)
        case Fault.NOT_FOUND | Fault.SERVER_ERROR:
            return web.Response(status=404 if fault is Fault.NOT_FOUND else 500, body=body)
        case Fault.TOO_MANY | Fault.UNAVAILABLE:
            status = 429 if fault is Fault.TOO_MANY else 503
            return web.Response(status=status, headers={"Retry-After": "1"}, body=body)
        case Fault.RATE_LIMIT:
            return web.Response(status=429, headers={"RateLimit": '"resolvers";r=0;t=1'})
        case _:
            return None


async def _broken_body(
    fault: Fault, request: web.Request, first: int, right: bytes, total: int
) -> web.StreamResponse:
    """Faults that show only in the body, or in its absence."""
    for_ever = asyncio.Event()
    if fault is Fault.STALL_BEFORE_HEADERS:
        await for_ever.wait()
    range_header = {"Content-Range": f"bytes {first}-{first + len(right) - 1}/{total}"}
    response = web.StreamResponse(status=206, headers=range_header)
    response.content_length = len(right)
    await response.prepare(request)
    half = len(right) // 2
    if fault is Fault.FLIPPED:
        await response.write(right[:half] + bytes([right[half] ^ 1]) + right[half + 1 :])
        return response
    await response.write(right[:half])
    if fault is Fault.STALL_IN_BODY:
        await for_ever.wait()
    if fault is Fault.DRIP:
        for i in range(half, len(right)):
            await response.write(right[i : i + 1])
            await asyncio.sleep(0.05)
    if request.transport is not None:
        request.transport.abort()
    return response
