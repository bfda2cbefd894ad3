"""A real nginx on loopback that serves one folder: a server that is not ours."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

TEMPS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True)
class Answer:
    """One line of its log. ``connection``: its number; ``nth``: of the requests on it."""

    status: int
    sent_bytes: int
    connection: int
    nth: int


@dataclass(frozen=True, slots=True)
class Nginx:
    """Serves ``folder`` at ``endpoint``."""

    endpoint: str
    log: Path

    def answers(self) -> list[Answer]:
        """All answers that are complete."""
        return [Answer(**json.loads(line)) for line in self.log.read_text().splitlines()]


@asynccontextmanager
async def nginx(
    folder: Path, state: Path, *, http: str = "", server: str = ""
) -> AsyncIterator[Nginx]:
    """The server, until the block is left. ``http``, ``server``: more of its configuration."""
    state.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        (state / "nginx.conf").write_text(_configuration(folder, state, port, http, server))
        process = await asyncio.create_subprocess_exec(
            "nginx",
            *("-p", str(state), "-c", str(state / "nginx.conf")),
            env=os.environ | {"NGINX": f"{listening.fileno()};"},  # it takes over the socket
            pass_fds=(listening.fileno(),),
            stderr=subprocess.DEVNULL,
        )
    try:
        yield Nginx(f"http://127.0.0.1:{port}", state / "access")
    finally:
        process.terminate()
        await process.wait()


def _configuration(folder: Path, state: Path, port: int, http: str, server: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    temps = " ".join(f"{name}_temp_path {state}/{name};" for name in TEMPS)
    line = (
        '{"status": $status, "sent_bytes": $body_bytes_sent,'
        ' "connection": $connection, "nth": $connection_requests}'
    )
    return f"""
{user} worker_processes 1; daemon off; pid {state}/pid; error_log {state}/errors;
events {{ worker_connections 256; }}
http {{ log_format lines escape=json '{line}'; access_log {state}/access lines; {temps}
sendfile on; keepalive_timeout 60; {http}
server {{ listen 127.0.0.1:{port}; root {folder}; {server} }} }}
"""
