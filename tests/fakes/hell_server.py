"""The link from hell in a process of its own: ``python -m tests.fakes.hell_server FILE JSON``.

JSON: the knobs of ``Hell``. Prints where it listens; gives its account to whoever connects to
``account_port``; ends when its input does. ``hell`` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import mmap
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.fakes.hell_hub import HOST, HellHub
from tests.fakes.hell_plan import Hell


class HellProcess:
    """A running one: its endpoint, and its account so far."""

    def __init__(self, endpoint: str, account_port: int) -> None:
        self.endpoint = endpoint
        self._account_port = account_port

    def report(self) -> dict[str, Any]:
        """The account, and each request."""
        with socket.create_connection((HOST, self._account_port)) as s, s.makefile("rb") as f:
            told: dict[str, Any] = json.load(f)
            return told


@contextlib.contextmanager
def hell(file: Path, plan: Hell) -> Iterator[HellProcess]:
    """Serve ``file`` by another process until the block is left."""
    arguments = [str(file), msgspec.json.encode(plan).decode()]
    command = [sys.executable, "-m", "tests.fakes.hell_server", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield HellProcess(**json.loads(process.stdout.readline()))


async def serve(file: Path, plan: Hell) -> None:
    """Serve a file until the input ends."""
    with file.open("rb") as f:
        sha256 = hashlib.file_digest(f, "sha256").hexdigest()
        content = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    async with HellHub(content, plan, sha256=sha256) as hub:

        async def give_account(_r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(json.dumps(hub.report()).encode())
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.close()

        accounts = await asyncio.start_server(give_account, HOST, 0)
        place = {
            "endpoint": hub.endpoint,
            "account_port": accounts.sockets[0].getsockname()[1],
        }
        sys.stdout.write(json.dumps(place) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        accounts.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Hell)))
