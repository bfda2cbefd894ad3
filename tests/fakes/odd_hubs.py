"""A Hub of raw sockets that makes other legal choices than the demo's: each repository has its own.

Shares no code with ``moshid.demo.hub``: what it answers is written out here, byte for byte, so that
a client which leans on one server's habits is found out.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

from tests.fakes.hell_wire import Request, read_request
from tests.fakes.raw_server import RawServer

COMMIT: Final = "c0ffee" + "0" * 34
SECRET: Final = "key=a%2Bb%3D&sig=~x"
NOWHERE: Final = "http://127.0.0.1:9/x"
PIECE_BYTES: Final = 16_384

Headers = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """What one repository's server chooses. ``bytes_at``: where an LFS file's redirect points to
    (``here``: no redirect, the Hub gives the bytes itself); ``hops``: redirects after that one;
    ``length``: HEAD tells Content-Length; ``body``: how a body's end is told; ``whole_after``: the
    answers to a range that are honoured before all are 200 and the whole file; ``cut_at``: bytes
    after which the first bodies of a whole large file are cut, one after the other;
    ``refuse_bytes``: 403 for an LFS file's bytes; ``head``: HEAD is known,
    else its answer is ``no_head``; ``early``: what comes
    before each answer; ``refuse``: the answer to everything."""

    bytes_at: str = "absolute"
    redirect: int = 302
    hops: int = 0
    etag: str = '"{}"'
    linked_etag: bool = True
    linked_size: bool = True
    length: bool = True
    commit: bool = True
    error_codes: bool = True
    listing: bool = True
    small_by_redirect: bool = False
    version: str = "HTTP/1.1"
    keep_alive: bool = True
    body: str = "length"
    ranges: bool = True
    whole_after: int = 0
    cut_at: tuple[int, ...] = ()
    wrong_byte: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    refuse_bytes: bool = False
    head: bool = True
    no_head: int = 405
    early: bytes = b""
    refuse: tuple[int, Mapping[str, str]] | None = None


@dataclass(slots=True)
class OddRepo:
    """A repository: its files by path, at one commit, which its ``revisions`` name. ``older``:
    commits of the past, with the same files."""

    odd: Odd
    files: dict[str, bytes]
    commit: str = COMMIT
    revisions: tuple[str, ...] = ("main",)
    older: tuple[str, ...] = ()

    def at(self, revision: str) -> str | None:
        """The commit of a revision, if there is one."""
        if revision in self.revisions or revision == self.commit:
            return self.commit
        return revision if revision in self.older else None


class OddHub(RawServer):
    """Serves ``repos`` (by name) on two ports of loopback until the block is left."""

    def __init__(self, repos: Mapping[str, OddRepo]) -> None:
        super().__init__()
        self.repos = dict(repos)
        self.port = self.other_port = 0
        self.seen: Counter[str] = Counter()
        """How often: "HEAD", "GET", "range", "whole", "token elsewhere"."""
        self.wrong_sizes: list[int] = []
        """What is told of the next LFS files instead."""
        self.dead_places = 0
        self.dead_place = NOWHERE
        """So many redirects lead to where nobody is."""
        self.refused = asyncio.Event()
        """Set once bytes were refused."""
        self._cuts = 0

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self.port = await self._listen("127.0.0.1")
        self.other_port = await self._listen("127.0.0.1")
        return self

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await read_request(reader)
        return request is not None and await self._answer(request, writer)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Answer once; whether the connection stays open."""
        self.seen[request.method] += 1
        parts = request.path.strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] in ("api", "bytes", "cache") else parts[:2])
        repo = self.repos.get(name)
        if repo is None:
            return await _send(writer, request, Odd(), 404, {"X-Error-Code": "RepoNotFound"})
        odd = repo.odd
        if odd.refuse is not None:
            return await _send(writer, request, odd, odd.refuse[0], dict(odd.refuse[1]))
        if request.method == "HEAD" and not odd.head:
            return await _send(writer, request, odd, odd.no_head, {"Allow": "GET"})
        at_hub = parts[0] != "bytes"
        if at_hub and odd.token and request.headers.get("authorization") != f"Bearer {odd.token}":
            return await _send(writer, request, odd, 401, {"X-Error-Code": "RepoNotFound"})
        if not at_hub and "authorization" in request.headers:
            self.seen["token elsewhere"] += odd.bytes_at == "other port"
        kinds: dict[str, Callable[..., tuple[int, Headers, bytes]]] = {
            "api": self._api,
            "bytes": self._bytes,
            "cache": self._cached,
        }
        status, headers, body = kinds.get(parts[0], self._resolve)(request, name, repo)
        cut_at = None
        if status == 200 and not at_hub and self._cuts < len(odd.cut_at):
            cut_at = odd.cut_at[self._cuts]
            self._cuts += 1
        return await _send(writer, request, odd, status, headers, body, cut_at)

    def _api(self, request: Request, name: str, repo: OddRepo) -> tuple[int, Headers, bytes]:
        revision = request.path.partition("/revision/")[2] or "main"
        if not repo.odd.listing or not repo.at(revision):
            return 404, {}, b""
        siblings = [{"rfilename": path} for path in repo.files]
        picture = {"id": name, "sha": repo.at(revision), "siblings": siblings, "tags": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(picture).encode()

    def _resolve(self, request: Request, name: str, repo: OddRepo) -> tuple[int, Headers, bytes]:
        odd = repo.odd
        where = urlsplit(request.target).path.split("/resolve/", 1)[1]
        revision, _, path = where.partition("/")
        path, revision = unquote(path), unquote(revision)
        commit = repo.at(revision)
        headers = {"X-Repo-Commit": commit} if odd.commit and commit else {}
        if not commit or path not in repo.files:
            code = "EntryNotFound" if commit else "RevisionNotFound"
            return 404, headers | ({"X-Error-Code": code} if odd.error_codes else {}), b""
        content = repo.files[path]
        if not _is_large(path):
            if odd.small_by_redirect:
                return 307, {"Location": f"/cache/x/{name}/{quote(path)}?etag=%22x%22"}, b"Moved"
            return self._file(request, repo, path, headers)
        if odd.bytes_at == "here":
            return self._file(request, repo, path, headers)
        linked = sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": odd.etag.format(linked)} if odd.linked_etag else {}
        headers |= {} if odd.linked_etag else {"ETag": odd.etag.format(linked)}
        size, self.wrong_sizes = self.wrong_sizes[:1] or [len(content)], self.wrong_sizes[1:]
        headers |= {"X-Linked-Size": str(size[0])} if odd.linked_size else {}
        location = self._at(odd, f"/bytes/{odd.hops}/{name}/{quote(path)}?{SECRET}")
        if self.dead_places:
            self.dead_places -= 1
            location = self.dead_place
        return odd.redirect, headers | {"Location": location}, b"Found, over there"

    def _at(self, odd: Odd, target: str) -> str:
        port = {"absolute": self.port, "other port": self.other_port}.get(odd.bytes_at)
        return target if port is None else f"http://127.0.0.1:{port}{target}"

    def _cached(self, request: Request, _name: str, repo: OddRepo) -> tuple[int, Headers, bytes]:
        path = "/".join(request.path.strip("/").split("/")[4:])
        return self._file(request, repo, path, {"X-Repo-Commit": repo.commit})

    def _bytes(self, request: Request, name: str, repo: OddRepo) -> tuple[int, Headers, bytes]:
        """The other place, which has the files' bytes, and knows nothing of Hubs."""
        _, hops, *rest = request.path.strip("/").split("/")
        if urlsplit(request.target).query != SECRET:
            return 403, {}, b"<Error>SignatureDoesNotMatch</Error>"
        if repo.odd.refuse_bytes:
            self.refused.set()
            return 403, {}, b"<Error>AccessDenied</Error>"
        path = "/".join(rest[2:])
        if hops != "0":
            further = f"/bytes/{int(hops) - 1}/{name}/{quote(path)}?{SECRET}"
            return repo.odd.redirect, {"Location": self._at(repo.odd, further)}, b"Not here"
        return self._file(request, repo, path, {}, at_hub=False)

    def _file(
        self, request: Request, repo: OddRepo, path: str, headers: Headers, *, at_hub: bool = True
    ) -> tuple[int, Headers, bytes]:
        content, odd = repo.files[path], repo.odd
        if at_hub:
            headers |= {"ETag": odd.etag.format(etag_of(path, content))}
        if odd.wrong_byte and content:
            content = bytes([content[0] ^ 1]) + content[1:]
        wanted = request.headers.get("range", "")
        honoured = odd.ranges and (not odd.whole_after or self.seen["range"] < odd.whole_after)
        if request.method == "GET":
            self.seen["range" if wanted and honoured else "whole"] += 1
        if not wanted or not honoured:
            return 200, headers, content
        first, last = (int(n) for n in wanted.removeprefix("bytes=").split("-"))
        if first >= len(content):
            return 416, headers | {"Content-Range": f"bytes */{len(content)}"}, b""
        last = min(last, len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return 206, headers, content[first : last + 1]


def etag_of(path: str, content: bytes) -> str:
    """The digest that a Hub keeps a file by."""
    if _is_large(path):
        return sha256(content).hexdigest()
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


async def _send(
    writer: asyncio.StreamWriter,
    request: Request,
    odd: Odd,
    status: int,
    headers: Headers,
    body: bytes = b"",
    cut_at: int | None = None,
) -> bool:
    """Write one answer as ``odd`` has it; whether the connection stays open."""
    head, by = {**headers, **odd.headers}, odd.body
    stays = odd.keep_alive and odd.version == "HTTP/1.1" and by != "close"
    if by == "chunked" and request.method == "GET":
        head["transfer-encoding"] = "chunked"
    elif (odd.length or request.method == "GET") and by != "close":
        head["content-length"] = str(len(body))
    if not stays:
        head["connection"] = "close"
    lines = [f"{odd.version} {status} Whatever", *(f"{k}: {v}" for k, v in head.items())]
    writer.write(odd.early + ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    if request.method != "HEAD":
        stop = len(body) if cut_at is None else min(cut_at, len(body))
        for at in range(0, stop, PIECE_BYTES):
            piece = body[at : min(stop, at + PIECE_BYTES)]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if by == "chunked" else piece)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if by == "chunked" and stop == len(body) else b"")
        stays = stays and stop == len(body)
    await writer.drain()
    return stays
