"""A Hub on loopback: the exchange that huggingface_hub and moshid have with the real one.

``HEAD|GET /{repo}/resolve/{rev}/{path}`` answers small files itself, and LFS files by a 302 to a
signed, expiring URL on a second port, its CDN; ``/api/models/{repo}`` lists. Sends nobody anywhere
but to loopback. Run it: ``python -m moshid.demo.hub --root DIR``; or ``async with DemoHub(root)``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from aiohttp import web

from moshid.demo.hub_files import Entry, Repo, RepoFolder
from moshid.demo.line import Line

HOST: Final = "127.0.0.1"
REQUESTS_KEPT: Final = 10_000

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_RESOLVE = "/{org}/{name}/resolve/{rev}/{path:.+}"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, for tests: which server ("hub" or "cdn"), what, and whether a token came."""

    server: str
    method: str
    path: str
    range: str | None
    authorized: bool


class DemoHub:
    """The two servers. ``token``: required of every caller; ``gated``: repositories that answer 403
    without it; ``url_ttl_s``: how long a signed URL lives; for the line's knobs see ``Line``."""

    def __init__(
        self,
        root: Path,
        *,
        port: int = 0,
        rate_bps: float | None = None,
        cut_after_bytes: Iterable[int] = (),
        url_ttl_s: float = 3600.0,
        token: str | None = None,
        gated: Iterable[str] = (),
    ) -> None:
        self.line = Line(rate_bps, cut_after_bytes)
        self.requests: deque[Seen] = deque(maxlen=REQUESTS_KEPT)
        self.port = port
        self.cdn_port = 0
        self.url_ttl_s = url_ttl_s
        self._repos = RepoFolder(root)
        self._lock = asyncio.Lock()
        self._token = token
        self._gated = frozenset(gated)
        self._key = secrets.token_bytes(32)
        self._by_sha256: dict[str, Entry] = {}
        self._runners: list[web.AppRunner] = []

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        hub = web.Application()
        for method in ("GET", "HEAD"):
            hub.router.add_route(method, _RESOLVE, self._resolve)
        hub.router.add_get("/api/models/{org}/{name}", self._info, allow_head=False)
        hub.router.add_get("/api/models/{org}/{name}/revision/{rev}", self._info, allow_head=False)
        cdn = web.Application()
        for method in ("GET", "HEAD"):
            cdn.router.add_route(method, "/cdn/{sha256}", self._object)
        self.port = await self._serve(hub, self.port)
        self.cdn_port = await self._serve(cdn, 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _serve(self, app: web.Application, port: int) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, HOST, port).start()
        return int(runner.addresses[0][1])

    async def _repo(self, request: web.Request) -> Repo:
        """The repository asked for, at a revision it has; else the Hub's answer is raised."""
        self._see("hub", request)
        name = f"{request.match_info['org']}/{request.match_info['name']}"
        given = request.headers.get("Authorization")
        if given not in (None, f"Bearer {self._token}") or (self._token and given is None):
            raise _refusal(web.HTTPUnauthorized, None, "Invalid username or password.")
        async with self._lock:
            repo = await asyncio.to_thread(self._repos.load, name)
        if repo is None:
            raise _refusal(web.HTTPNotFound, "RepoNotFound", "Repository not found")
        if name in self._gated and given is None:
            raise _refusal(web.HTTPForbidden, "GatedRepo", f"Access to model {name} is restricted.")
        revision = request.match_info.get("rev", "main")
        if revision not in ("main", repo.commit):
            raise _refusal(web.HTTPNotFound, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repo

    async def _info(self, request: web.Request) -> web.Response:
        repo = await self._repo(request)
        blobs = request.query.get("blobs", "").lower() in ("true", "1")
        return web.json_response(repo.info(blobs=blobs, gated=repo.name in self._gated))

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repo = await self._repo(request)
        entry = repo.entries.get(request.match_info["path"])
        commit = {"X-Repo-Commit": repo.commit}
        if entry is None:
            raise _refusal(web.HTTPNotFound, "EntryNotFound", "Entry not found", commit)
        if not entry.lfs:
            return await self._send(request, entry, commit | {"ETag": f'"{entry.git_sha1}"'})
        self._by_sha256[entry.sha256] = entry
        headers = commit | {
            "X-Linked-Size": str(entry.size),
            "X-Linked-Etag": f'"{entry.sha256}"',
            "Location": self._sign(entry),
            "Accept-Ranges": "bytes",
        }
        return web.Response(status=302, headers=headers, text="Found. Redirecting to the CDN")

    async def _object(self, request: web.Request) -> web.StreamResponse:
        self._see("cdn", request)
        sha256, expires = request.match_info["sha256"], request.query.get("Expires", "")
        signature = request.query.get("Signature", "")
        if "Authorization" in request.headers:
            return web.Response(status=400, text="<Error>Only one auth mechanism allowed</Error>")
        good = hmac.compare_digest(signature, self._signature(sha256, expires))
        if not good or time.time() >= float(expires):
            return web.Response(status=403, content_type="application/xml", text=_DENIED)
        return await self._send(request, self._by_sha256[sha256], {"ETag": f'"{sha256}"'})

    def _sign(self, entry: Entry) -> str:
        expires = f"{time.time() + self.url_ttl_s:.3f}"
        signature = self._signature(entry.sha256, expires)
        name = quote(f'inline; filename="{entry.path.rsplit("/", 1)[-1]}"')
        query = f"response-content-disposition={name}&Expires={expires}&Signature={signature}"
        return f"http://{HOST}:{self.cdn_port}/cdn/{entry.sha256}?{query}"

    def _signature(self, sha256: str, expires: str) -> str:
        return hmac.new(self._key, f"{sha256} {expires}".encode(), hashlib.sha256).hexdigest()

    def _see(self, server: str, request: web.Request) -> None:
        authorized = "Authorization" in request.headers
        wanted = request.headers.get("Range")
        self.requests.append(Seen(server, request.method, request.path, wanted, authorized))

    async def _send(
        self, request: web.Request, entry: Entry, headers: dict[str, str]
    ) -> web.StreamResponse:
        """The file, or the range of it that was asked for, at the line's pace."""
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        start, stop = 0, entry.size
        if wanted and any(wanted.groups()):
            start, stop = _bounds(wanted[1], wanted[2], entry.size)
            if start >= stop:
                headers["Content-Range"] = f"bytes */{entry.size}"
                return web.Response(status=416, headers=headers)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
        status = 206 if "Content-Range" in headers else 200
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = stop - start
        with contextlib.suppress(ConnectionError):  # the client has left: that is its affair
            await response.prepare(request)
            if request.method != "HEAD":
                await self._stream(request, response, entry.file, start, stop)
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, file: Path, start: int, stop: int
    ) -> None:
        transport = request.transport
        if transport is None:
            return
        fd = await asyncio.to_thread(os.open, file, os.O_RDONLY)
        self.line.joined(transport)
        try:
            while start < stop:
                size = min(self.line.piece_bytes, stop - start)
                piece = await asyncio.to_thread(os.pread, fd, size, start)
                await self.line.pass_on(len(piece))
                await response.write(piece)
                start += len(piece)
            await response.write_eof()
        finally:
            self.line.left(transport)
            os.close(fd)


_DENIED: Final = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """``bytes=first-last`` as (start, stop); empty when the file has no such bytes."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _refusal(
    kind: type[web.HTTPException],
    code: str | None,
    message: str,
    headers: dict[str, str] | None = None,
) -> web.HTTPException:
    coded = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return kind(headers=coded | (headers or {}), text=message)


async def serve(hub: DemoHub) -> None:
    """Serve until SIGTERM or SIGINT; one JSON line on stdout says where."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with hub:
        place = {"endpoint": hub.endpoint, "port": hub.port, "cdn_port": hub.cdn_port}
        print(json.dumps(place | {"pid": os.getpid()}), flush=True)
        await stop.wait()


def main(argv: list[str] | None = None) -> None:
    """The command line: see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m moshid.demo.hub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="ROOT/<org>/<name>/<files>")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--rate-bps", type=float, help="bytes a second, over all connections")
    parser.add_argument("--cut-at", type=int, nargs="*", default=[], metavar="BYTES")
    parser.add_argument("--url-ttl-s", type=float, default=3600.0)
    a = parser.parse_args(argv)
    hub = DemoHub(
        a.root,
        port=a.port,
        rate_bps=a.rate_bps,
        cut_after_bytes=a.cut_at,
        url_ttl_s=a.url_ttl_s,
    )
    asyncio.run(serve(hub))


if __name__ == "__main__":
    main()
