"""``stop``: end the daemon, and wait until it is gone."""

from __future__ import annotations

from moshi_client.errors import EXIT_OK, ClientError, ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from moshi_client.cli import Commands
    from moshi_client.context import Context

PATIENCE_S = 60.0


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
    with connection:
        try:
            result = connection.call("daemon.stop")
            while connection.take(PATIENCE_S) is not None:
                pass
        except ConnectionLost:
            result = {"stopping": True}
        else:
            raise ClientError(
                f"the daemon (pid {server.get('pid')}) was asked to stop and is still there",
                "See its log: moshi-client logs.",
            )
    ctx.emit(result | {"stopped": True}, "stopped")
    return EXIT_OK
