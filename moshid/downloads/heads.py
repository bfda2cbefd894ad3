"""Reads the heads of answers: bounds them (aiohttp bounds a header's length, but not how many there
are), and takes the ways of telling a body's length that other clients take.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

HEAD_BYTES_MAX: Final = 1 << 20

_BEGINS: Final = b"HTTP/"
_END: Final = re.compile(rb"\n\r?\n")
_INTERIM: Final = re.compile(rb"HTTP/\d\.\d 1(?!01)")
_FRAMING: Final = re.compile(
    rb"\r?\n(content-length|transfer-encoding):[ \t]*([^\r\n]*)", re.IGNORECASE
)


class BoundedHead(ResponseHandler):
    """Reads answers; one whose head has no end in sight breaks its connection."""

    _head: bytearray | None = None
    """What has come of a head that is not all here; None while none is awaited."""
    _searched_bytes = 0
    """So much of it is known to hold no end."""
    _before_bytes = 0
    """So much came in interim heads before it."""

    def set_response_params(self, **params: Any) -> None:
        """Called before each answer."""
        self._await_head(b"")
        self._before_bytes = 0
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Called with what came."""
        if self._head is None:
            super().data_received(data)
            return
        self._head += data
        while self._head is not None and (stop := self._head_stop(self._head)) is not None:
            head, rest = bytes(self._head[:stop]), bytes(self._head[stop:])
            self._head = None
            super().data_received(mended(head))
            if _INTERIM.match(head):
                self._before_bytes += stop
                self._await_head(rest)
            elif rest:
                super().data_received(rest)
        if self._head is not None and self._before_bytes + len(self._head) > HEAD_BYTES_MAX:
            self._give_up()

    def _await_head(self, begun: bytes) -> None:
        self._head, self._searched_bytes = bytearray(begun), 0

    def _head_stop(self, head: bytearray) -> int | None:
        """Where it ends; None: later. What is no HTTP at all is passed on as it comes."""
        if not head.startswith(_BEGINS[: len(head)]):
            return len(head)
        found = _END.search(head, self._searched_bytes)
        self._searched_bytes = max(0, len(head) - 3)
        return None if found is None else found.end()

    def _give_up(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        self.set_exception(aiohttp.ClientPayloadError("the answer's head has no end"))


def mended(head: bytes) -> bytes:
    """A head that tells its body's length as strict readers want it (RFC 9112, 6.3): what is told
    twice alike counts once, a length beside ``chunked`` does not count, ``identity`` says nothing.
    Lengths that differ stay, and are refused."""
    found = [(name.lower(), value.strip()) for name, value in _FRAMING.findall(head)]
    lengths = {n.strip() for k, v in found if k == b"content-length" for n in v.split(b",")}
    codings = [v for k, v in found if k == b"transfer-encoding" and v.lower() != b"identity"]
    told = codings or sorted(lengths)
    if told == [value for _, value in found] or (not codings and len(lengths) > 1):
        return head
    name = b"Transfer-Encoding" if codings else b"Content-Length"
    first, newline, rest = _FRAMING.sub(b"", head).partition(b"\n")
    return b"".join([first, newline, *(b"%b: %b\r\n" % (name, value) for value in told), rest])


def bound_heads(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """Have the connector's connections read so."""
    factory = partial(BoundedHead, loop=asyncio.get_running_loop())
    connector._factory = cast("partial[ResponseHandler]", factory)
    return connector
