"""A plain web server in threads: one file, with or without ranges and lengths, and odd addresses.

``/file.bin`` is the file; ``/moved`` leads to it; ``/refused`` answers 403, ``/portal.bin`` with a
page of HTML, everything else with 404. HEAD is not known.
"""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

PIECE_BYTES = 16_384
DRIP_BYTES, DRIP_S = 4096, 0.1


class WebFiles:
    """Serves ``content`` on loopback until the block is left. ``hold_after``: after so many bytes
    of it, in all, nothing more is sent until ``go`` is set. ``most``: who comes while so many are
    served is refused; these get no more than a drip until so many have asked for the size in vain.
    """

    def __init__(
        self,
        content: bytes,
        *,
        ranges: bool = True,
        length: bool = True,
        hold_after: int | None = None,
        most: tuple[int, int] | None = None,
        port: int = 0,
    ) -> None:
        self.content = content
        self.ranges = ranges
        self.length = length
        self.hold_after = hold_after
        self.go = threading.Event()
        self.seen: list[tuple[str, dict[str, str]]] = []
        """Path and headers (names in small letters) of each request."""
        self.sent_bytes = 0
        self.most = most
        self.served = 0
        self.vain = 0
        """Refusals to who asked for the size."""
        self._lock = threading.Lock()
        files = self

        class Handler(_Handler):
            web = files

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def url(self, path: str = "/file.bin") -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def enter(self, asked: str) -> bool:
        """Whether one more may be served; whoever may leaves by ``leave``."""
        with self._lock:
            if self.most is None or self.served < self.most[0]:
                self.served += 1
                return True
            self.vain += asked == "bytes=0-0"
            if self.vain >= self.most[1]:
                self.go.set()
            return False

    def leave(self) -> None:
        """It has been served."""
        with self._lock:
            self.served -= 1

    def may_send(self, count: int) -> None:
        """Count bytes that are about to be sent; waits while they are held back."""
        with self._lock:
            held = self.hold_after is not None and self.sent_bytes >= self.hold_after
        if held:
            self.go.wait()
        if self.most is not None:
            self.go.wait(DRIP_S)
        with self._lock:
            self.sent_bytes += count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebFiles

    def do_GET(self) -> None:
        self.close_connection = True
        self.web.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
        odd: dict[str, tuple[int, dict[str, str], bytes]] = {
            "/moved": (302, {"Location": "/file.bin?signature=a%2Bb"}, b""),
            "/refused": (403, {}, b"no"),
            "/portal.bin": (200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
        }
        if self.path.partition("?")[0] == "/file.bin":
            if self.web.enter(self.headers.get("Range", "")):
                self._file()
                self.web.leave()
                return
            self._head(403, {"Content-Length": "0"})
        else:
            status, headers, body = odd.get(self.path, (404, {}, b"not here"))
            self._head(status, headers | {"Content-Length": str(len(body))})
            self.wfile.write(body)

    def _file(self) -> None:
        content = self.web.content
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        status, headers = 200, {"Content-Type": "application/octet-stream"}
        body = memoryview(content)
        if asked and self.web.ranges:
            start, stop = int(asked[1]), int(asked[2]) + 1
            status, body = 206, body[start:stop]
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(content)}"
        how = {"Content-Length": str(len(body))}
        if not self.web.length:
            how = {"Transfer-Encoding": "chunked"}
        self._head(status, headers | how)
        try:
            most = DRIP_BYTES if self.web.most else PIECE_BYTES
            for at in range(0, len(body), most):
                self._piece(bytes(body[at : at + most]))
            if not self.web.length:
                self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:  # the client has had enough
            return

    def _piece(self, piece: bytes) -> None:
        self.web.may_send(len(piece))
        framed = piece if self.web.length else b"%x\r\n%b\r\n" % (len(piece), piece)
        self.wfile.write(framed)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
