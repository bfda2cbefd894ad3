"""Reads the heads of answers: bounds them (aiohttp bounds a header's length, but not how many there
are), and takes what other clients take of headers and of the ways to tell a body's length.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

HEAD_BYTES_MAX: Final = 1 << 20
LENGTH_DIGITS_MAX: Final = 40

_BEGINS: Final = b"HTTP/"
_END: Final = re.compile(rb"\n\r?\n")
_INTERIM: Final = re.compile(rb"HTTP/\d\.\d 1(?!01)")
_FRAMING: Final = re.compile(
    rb"\r?\n(content-length|transfer-encoding):[ \t]*([^\r\n]*)", re.IGNORECASE
)
_NAME: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SPACED: Final = re.compile(rb"\n(" + _NAME + rb")[ \t]+:")
_NO_HEADER: Final = re.compile(rb"\n(?![ \t\r\n]|" + _NAME + rb":)[^\n]*(?:\n[ \t][^\n]*)*(?=\n)")
_VERSION: Final = re.compile(rb"HTTP/1\.(?:[2-9](?= )|0(?= 1\d\d))")


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
            self._feed(data)
            return
        self._head += data
        while self._head is not None and (stop := self._head_stop(self._head)) is not None:
            head, rest = bytes(self._head[:stop]), bytes(self._head[stop:])
            self._head = None
            self._feed(mended(head) if head.startswith(_BEGINS) else head)
            if _INTERIM.match(head):
                self._before_bytes += stop
                self._await_head(rest)
            elif rest:
                self._feed(rest)
        if self._head is not None and self._before_bytes + len(self._head) > HEAD_BYTES_MAX:
            self._give_up()

    def _feed(self, data: bytes) -> None:
        super().data_received(data)
        error = self.exception()
        if error is not None and self._payload is not None and not self._payload.is_eof():
            # or who reads it is told that the program is wrong
            self._payload.set_exception(aiohttp.ClientPayloadError("the body is framed wrongly"))

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
    """A head as strict readers want it: what is no header is left out, a space before a colon goes;
    a later HTTP/1 is read as 1.1, and so is an interim head of 1.0. Its body's length as ``framed``
    has it."""
    head = _VERSION.sub(b"HTTP/1.1", head, count=1)
    return framed(_NO_HEADER.sub(b"", _SPACED.sub(rb"\n\1:", head)))


def framed(head: bytes) -> bytes:
    """A head that tells its body's length in one way (RFC 9112, 6.3): what is told twice alike
    counts once, a length beside ``chunked`` does not count, ``identity`` says nothing, nor do
    spaces after it and zeros before. Lengths that differ stay, and are refused."""
    found = [(name.lower(), value) for name, value in _FRAMING.findall(head)]
    lengths = {_length(n) for k, v in found if k == b"content-length" for n in v.split(b",")}
    values = [v.strip() for k, v in found if k == b"transfer-encoding"]
    codings = [v for v in values if v.lower() != b"identity"]
    told = codings or sorted(lengths)
    if told == [value for _, value in found] or (not codings and len(lengths) > 1):
        return head
    name = b"Transfer-Encoding" if codings else b"Content-Length"
    first, newline, rest = _FRAMING.sub(b"", head).partition(b"\n")
    return b"".join([first, newline, *(b"%b: %b\r\n" % (name, value) for value in told), rest])


def _length(told: bytes) -> bytes:
    told = told.strip()
    return b"%d" % int(told) if told.isdigit() and len(told) < LENGTH_DIGITS_MAX else told


def bound_heads(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """Have the connector's connections read so."""
    factory = partial(BoundedHead, loop=asyncio.get_running_loop())
    connector._factory = cast("partial[ResponseHandler]", factory)
    return connector
