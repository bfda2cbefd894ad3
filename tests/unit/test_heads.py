"""A server that sends headers for ever is left, before it fills the memory."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from moshid.downloads.engine import open_session
from moshid.downloads.heads import HEAD_BYTES_MAX
from tests.fakes.raw_web import RawWeb, answer

pytestmark = pytest.mark.asyncio

HEADER = "X-More: " + "x" * 1000 + "\r\n"


async def test_an_answer_whose_head_has_no_end_breaks_its_connection() -> None:
    left = asyncio.Event()

    async def for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 206 X\r\n")
        try:
            while True:
                writer.write(HEADER.encode())
                await writer.drain()
        except ConnectionError:
            left.set()
        writer.close()

    server = await asyncio.start_server(for_ever, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, open_session(None) as session:
        with pytest.raises(aiohttp.ClientError, match="no end"):
            await session.get(url)
        await left.wait()


async def test_long_heads_and_bodies_are_read_on_one_connection() -> None:
    more = {f"X-{n}": "x" * 1000 for n in range(HEAD_BYTES_MAX // 2000)}
    body = bytes(3 * HEAD_BYTES_MAX)
    async with RawWeb(lambda _: answer(200, more, body)) as web, open_session(None) as session:
        for _ in range(3):
            async with session.get(web.url()) as told:
                assert await told.read() == body
