"""A server that sends headers for ever is left, before it fills the memory."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from moshid.downloads.certificates import trusting
from moshid.downloads.engine import open_session
from moshid.downloads.heads import HEAD_BYTES_MAX, mended
from tests.fakes.raw_web import RawWeb, answer

TRUST = trusting(None)
HEADER = "X-More: " + "x" * 1000 + "\r\n"


@pytest.mark.parametrize(
    ("told", "as_wanted"),
    [
        ("Content-Length: 5|X: y", "Content-Length: 5|X: y"),
        ("Content-Length: 5|X: y|content-length:5", "Content-Length: 5|X: y"),
        ("X: y|Content-Length: 5, 5", "Content-Length: 5|X: y"),
        ("Content-Length: 5|Content-Length: 6", "Content-Length: 5|Content-Length: 6"),
        ("Content-Length: 5|Transfer-Encoding: Chunked", "Transfer-Encoding: Chunked"),
        ("Transfer-Encoding: identity|Content-Length: 5", "Content-Length: 5"),
        ("Transfer-Encoding: gzip, chunked", "Transfer-Encoding: gzip, chunked"),
        ("X: Content-Length: 5|Content-Length: 6", "X: Content-Length: 5|Content-Length: 6"),
        ("Content-Length: 5 \t|X: y", "Content-Length: 5|X: y"),
        ("Content-Length: 005", "Content-Length: 5"),
        ("Content-Length: 05, 5", "Content-Length: 5"),
        ("Content-Length: +5", "Content-Length: +5"),
        (f"Content-Length: {'9' * 5000}", f"Content-Length: {'9' * 5000}"),
        ("Content-Length : 5|Server\t: x", "Content-Length: 5|Server: x"),
        ("no header|X: y|X y: z| folded|: empty|Y: z| too", "X: y|Y: z| too"),
    ],
)
def test_a_length_is_told_as_strict_readers_want_it(told: str, as_wanted: str) -> None:
    def head(lines: str) -> bytes:
        return "\r\n".join(["HTTP/1.1 200 OK", *lines.split("|"), "", ""]).encode()

    assert mended(head(told)) == head(as_wanted)


def test_a_head_whose_lines_end_without_cr_is_one_too() -> None:
    told = b"HTTP/1.1 200 OK\nContent-Length: 5\nX: y\nContent-Length: 5\n\n"
    assert mended(told) == b"HTTP/1.1 200 OK\nContent-Length: 5\r\nX: y\n\n"


@pytest.mark.parametrize(
    ("told", "as_wanted"),
    [
        (b"HTTP/1.2 206 X\r\n\r\n", b"HTTP/1.1 206 X\r\n\r\n"),
        (b"HTTP/1.0 100 X\r\n\r\n", b"HTTP/1.1 100 X\r\n\r\n"),
        (b"HTTP/1.0 200 X\r\n\r\n", b"HTTP/1.0 200 X\r\n\r\n"),
    ],
)
def test_a_version_is_one_that_strict_readers_know(told: bytes, as_wanted: bytes) -> None:
    assert mended(told) == as_wanted


@pytest.mark.asyncio
async def test_what_is_no_head_is_passed_on_byte_for_byte() -> None:
    """An empty line before one is let pass, and what came with it may hold a body."""
    body = b"\nno header\n: x\nA : b\n"
    async with (
        RawWeb(lambda _: b"\r\n" + answer(200, {}, body)) as web,
        open_session(TRUST) as session,
        session.get(web.url()) as got,
    ):
        assert await got.read() == body


@pytest.mark.asyncio
async def test_lengths_that_differ_are_refused() -> None:
    twice = {"content-length": "3", "Content-Length": "2"}
    async with (
        RawWeb(lambda _: answer(200, twice, b"xyz")) as web,
        open_session(TRUST) as session,
    ):
        with pytest.raises(aiohttp.ClientError):
            await session.get(web.url())


@pytest.mark.asyncio
async def test_heads_that_come_byte_by_byte_and_after_others_are_read() -> None:
    left = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told = answer(200, {"content-length": "3"}, b"xyz")
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            for at in b"HTTP/1.1 103 X\r\nLink: y\r\n\r\n" + told:
                writer.write(bytes([at]))
                await writer.drain()
                await asyncio.sleep(0)
        await reader.read()
        writer.close()
        left.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, open_session(TRUST) as session:
        for _ in range(2):
            async with session.get(url) as told:
                assert await told.read() == b"xyz"
        await session.close()
        await left.wait()


@pytest.mark.asyncio
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
    async with server, open_session(TRUST) as session:
        with pytest.raises(aiohttp.ClientError, match="no end"):
            await session.get(url)
        await left.wait()


@pytest.mark.asyncio
async def test_long_heads_and_bodies_are_read_on_one_connection() -> None:
    more = {f"X-{n}": "x" * 1000 for n in range(HEAD_BYTES_MAX // 2000)}
    body = bytes(3 * HEAD_BYTES_MAX)
    async with (
        RawWeb(lambda _: answer(200, more, body)) as web,
        open_session(TRUST) as session,
    ):
        for _ in range(3):
            async with session.get(web.url()) as told:
                assert await told.read() == body
