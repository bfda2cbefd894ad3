"""The process that hf-transfer runs in, seen from the daemon. Owns its start and its sure end.

It writes into the partial file and shares its lock: whoever finds the file unlocked can be sure
that nobody writes there any more, though the daemon was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from moshid import threads
from moshid.downloads.disk import Partial
from moshid.downloads.profiles import Profile
from moshid.downloads.source import Link

CHILD: Final = "moshid.downloads.turbo_child"


class HelperFailed(Exception):
    """It did not bring the file: it said why, it ended, or nothing came for too long."""


@asynccontextmanager
async def helper(
    partial: Partial, link: Link, profile: Profile
) -> AsyncIterator[AsyncIterator[int]]:
    """Have the whole file fetched into ``partial``; gives the bytes of each range as it is written.
    The process has ended when the block is left.

    Raises:
        HelperFailed: it cannot be started; or, while iterating, not all of the file came.
    """
    process = await _start(partial)
    try:
        yield _ranges(process, _order(partial, link, profile), profile.stall_timeout_s)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await _surely(process.wait())
        assert process.stdin is not None
        process.stdin.close()


async def _start(partial: Partial) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", CHILD, str(partial.fd))
    try:
        threads.check_room_for_process()
        return await asyncio.create_subprocess_exec(
            *command,
            pass_fds=(partial.fd,),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as e:
        raise HelperFailed(f"its process cannot be started ({e.strerror})") from e


def _order(partial: Partial, link: Link, profile: Profile) -> bytes:
    order = {"url": link.url, "headers": link.headers, "connections": profile.connections_max}
    order |= {"path": str(partial.path.absolute()), "size": partial.size}
    return json.dumps(order).encode() + b"\n"


async def _ranges(
    process: asyncio.subprocess.Process, order: bytes, stall_s: float
) -> AsyncIterator[int]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(order)
    while True:
        try:
            async with asyncio.timeout(stall_s):
                line = (await process.stdout.readline()).decode(errors="replace").strip()
        except TimeoutError as e:
            raise HelperFailed(f"nothing came for {stall_s:g} s") from e
        if line == "done":
            return
        if not line.isdecimal():
            raise HelperFailed(line.removeprefix("failed ") or "its process ended")
        yield int(line)


async def _surely(work: Coroutine[Any, Any, Any]) -> None:
    """Wait for ``work`` to its end, though the caller be cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as e:
            cancelled = e
    if cancelled is not None:
        raise cancelled
