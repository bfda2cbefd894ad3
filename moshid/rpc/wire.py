"""Lines: reading one with a limit, encoding a message as one. Owns the 1 MiB rule."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import msgspec

from moshid.errors import LineTooLong

LINE_BYTES_MAX: Final = 1024 * 1024


async def read_line(reader: asyncio.StreamReader) -> bytes | None:
    """The next line without its end; None at end of file. A last line needs no newline.

    Raises:
        LineTooLong: over ``LINE_BYTES_MAX``; the rest of that line is skipped.
    """
    try:
        return (await reader.readuntil(b"\n"))[:-1]
    except asyncio.IncompleteReadError as e:
        return e.partial or None
    except asyncio.LimitOverrunError:
        await _skip_line(reader)
        raise LineTooLong(f"a line of over {LINE_BYTES_MAX} bytes was skipped") from None


async def _skip_line(reader: asyncio.StreamReader) -> None:
    while True:
        try:
            await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as e:
            await reader.readexactly(max(1, e.consumed))
        except asyncio.IncompleteReadError:
            return
        else:
            return


def encode(message: Any) -> bytes:
    """A message as one line. Numbers that JSON lacks (NaN) become null."""
    try:
        return msgspec.json.encode(message) + b"\n"
    except (UnicodeEncodeError, TypeError):
        # A file name that is no Unicode: escape it rather than lose the reply.
        return json.dumps(message, default=str).encode() + b"\n"
