"""What the client can fail with, and the exit code of each. Owns the exit codes.

::

    ClientError                1  client.failed
    ├─ OutputFailed            1  client.failed
    ├─ UsageError              2  client.usage
    │  └─ Unsendable           2  client.usage
    ├─ DaemonNotRunning        3  client.not_running
    │  └─ ConnectionLost       3  client.connection_lost
    ├─ ProtocolMismatch        4  client.protocol_mismatch
    └─ RemoteError             the daemon's own kind; 2 for wrong parameters, 4 for the protocol
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_PROTOCOL = 4
EXIT_INTERRUPTED = 130

_EXIT_BY_KIND = {
    "rpc.invalid_params": EXIT_USAGE,
    "rpc.method_not_found": EXIT_USAGE,
    "rpc.protocol_mismatch": EXIT_PROTOCOL,
}


class ClientError(Exception):
    """The command failed; ``hint`` says what to do about it."""

    exit_code = EXIT_FAILED
    kind = "client.failed"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_json(self) -> dict[str, Any]:
        """The value of ``error`` in the JSON object that ``--json`` puts on stderr."""
        return {"kind": self.kind, "message": self.message, "hint": self.hint, "retryable": False}


class OutputFailed(ClientError):
    """Standard output cannot be written: a full disk, for example."""


class UsageError(ClientError):
    """The command line is wrong."""

    exit_code = EXIT_USAGE
    kind = "client.usage"


class Unsendable(UsageError):
    """A value that no JSON text in UTF-8 can carry; ``name``: the parameter's, ``what``: why."""

    def __init__(self, name: str, what: str, hint: str | None = None) -> None:
        super().__init__(f"{name}: {what}", hint)
        self.name = name
        self.what = what


class DaemonNotRunning(ClientError):
    """Nobody listens on the socket."""

    exit_code = EXIT_NOT_RUNNING
    kind = "client.not_running"


class ConnectionLost(DaemonNotRunning):
    """The daemon went away while it was asked."""

    kind = "client.connection_lost"


class ProtocolMismatch(ClientError):
    """Whoever listens on the socket speaks no protocol version that this client knows."""

    exit_code = EXIT_PROTOCOL
    kind = "client.protocol_mismatch"


class RemoteError(ClientError):
    """The daemon's answer is an error; ``data`` is the JSON-RPC error's data."""

    def __init__(self, error: dict[str, Any]) -> None:
        data = error.get("data")
        self.data: dict[str, Any] = data if isinstance(data, dict) else {}
        super().__init__(str(error.get("message", "unknown error")), self.data.get("hint"))
        self.code = error.get("code")
        self.kind = str(self.data.get("kind", "rpc.error"))
        self.exit_code = _EXIT_BY_KIND.get(self.kind, EXIT_FAILED)

    def to_json(self) -> dict[str, Any]:
        """As the daemon sent it, flattened: kind, message, hint, retryable, code and its facts."""
        return super().to_json() | {"code": self.code} | self.data
