"""Bounds the head of an answer: aiohttp bounds a header's length, but not how many there are."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

HEAD_BYTES_MAX: Final = 1 << 20


class BoundedHead(ResponseHandler):
    """Reads answers; one whose head has no end in sight breaks its connection."""

    _head_bytes: int | None = None
    """So much has come of a head that is not all here; None while none is awaited."""

    def set_response_params(self, **params: Any) -> None:
        """Called before each answer."""
        self._head_bytes = 0
        super().set_response_params(**params)

    def feed_data(self, *message: Any) -> None:
        """Called with each head that is complete."""
        self._head_bytes = None
        super().feed_data(*message)

    def data_received(self, data: bytes) -> None:
        """Called with what came."""
        super().data_received(data)
        if self._head_bytes is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX and self.transport is not None:
            self.transport.abort()
            self.set_exception(aiohttp.ClientPayloadError("the answer's head has no end"))


def bound_heads(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """Have the connector's connections read so."""
    factory = partial(BoundedHead, loop=asyncio.get_running_loop())
    connector._factory = cast("partial[ResponseHandler]", factory)
    return connector
