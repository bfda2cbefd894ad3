"""``stop``: end the daemon, and wait until it is gone."""

from __future__ import annotations

import os
import time

from moshi_client.errors import EXIT_OK, ClientError, ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from moshi_client.cli import Commands
    from moshi_client.context import Context

    Json = dict[str, Any]

PATIENCE_S = 60.0
POLL_INTERVAL_S = 0.02


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add(
        "stop",
        _stop,
        "stop the daemon, and wait until it is gone",
        more="Downloads go on when it is started again.",
    )


def _stop(ctx: Context, _args: argparse.Namespace) -> int:
    connection, server = ctx.connect()
    deadline = time.monotonic() + PATIENCE_S
    with connection:
        try:
            result = connection.call("daemon.stop")
            while connection.take(deadline - time.monotonic()) is not None:
                pass
        except ConnectionLost:
            result = {"stopping": True}
        else:
            raise _still_there(server)
    # The socket goes first. Workers end after it, and then the lock, which a new daemon wants.
    while _holds_lock(server):
        if time.monotonic() > deadline:
            raise _still_there(server)
        time.sleep(POLL_INTERVAL_S)
    ctx.emit(result | {"stopped": True}, "stopped")
    return EXIT_OK


def _holds_lock(server: Json) -> bool:
    import fcntl

    try:
        with open(f"{server.get('home')}/moshid.lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return os.pread(file.fileno(), 32, 0).split() == [str(server.get("pid")).encode()]
    except OSError:
        return False
    return False


def _still_there(server: Json) -> ClientError:
    return ClientError(
        f"the daemon (pid {server.get('pid')}) was asked to stop and is still there",
        "See its log: moshi-client logs.",
    )
