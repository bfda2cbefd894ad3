"""Errors of the control plane and of the daemon itself."""

from __future__ import annotations

from moshid.errors.base import MoshidError


class RpcError(MoshidError):
    """The caller's message could not be served as it is."""

    kind = "rpc.error"
    default_hint = "See `moshi-client methods` for the methods and their parameters."


class ParseFailed(RpcError):
    """The line is not JSON in UTF-8."""

    kind = "rpc.parse_error"
    code = -32700
    default_hint = "Send one JSON text a line, in UTF-8."


class InvalidRequest(RpcError):
    """The JSON is no JSON-RPC 2.0 request."""

    kind = "rpc.invalid_request"
    code = -32600
    default_hint = 'Send {"jsonrpc": "2.0", "id": ..., "method": ..., "params": {...}}.'


class MethodNotFound(RpcError):
    """No such method."""

    kind = "rpc.method_not_found"
    code = -32601


class InvalidParams(RpcError):
    """A parameter is missing, unknown, of the wrong type or out of range."""

    kind = "rpc.invalid_params"
    code = -32602


ABSOLUTE_PATH = "Give an absolute path, starting with /: the daemon does not know your folder."
"""The hint of ``InvalidParams`` where a path is relative."""


class LineTooLong(RpcError):
    """A line over 1 MiB; it is skipped, the connection goes on."""

    kind = "rpc.line_too_long"
    code = -32600
    default_hint = "Keep each line under 1 MiB."


class TooManyRequests(RpcError):
    """Too many unanswered requests on one connection."""

    kind = "rpc.too_many_requests"
    retryable = True
    default_hint = "Wait for answers before you ask for more, or open another connection."


class RequestCancelled(RpcError):
    """The client cancelled this request with $/cancelRequest."""

    kind = "rpc.cancelled"
    code = -32800
    retryable = True
    default_hint = "You cancelled it; call again if you want it after all."


class ProtocolMismatch(RpcError):
    """Client and daemon share no protocol version."""

    kind = "rpc.protocol_mismatch"
    default_hint = "Bring the client and the daemon to the same version, then restart the daemon."


class InternalError(RpcError):
    """A fault inside the daemon; the text stays in the log, under the reference given."""

    kind = "rpc.internal"
    code = -32603
    default_hint = MoshidError.default_hint


class DaemonError(MoshidError):
    """The daemon itself cannot start or go on."""

    kind = "daemon.error"


class AlreadyRunning(DaemonError):
    """Another daemon holds this home."""

    kind = "daemon.already_running"
    default_hint = "Use the running one (moshi-client status), or stop it: moshi-client stop."


class SocketPathTooLong(DaemonError):
    """The control socket's path is over the platform's limit."""

    kind = "daemon.socket_path_too_long"
    default_hint = "Set MOSHID_SOCKET to a shorter path, for example /tmp/moshid-$(id -u).sock."


class BadSettings(DaemonError):
    """A setting in config.toml, the environment or a flag is wrong."""

    kind = "daemon.bad_settings"
    default_hint = "Correct the setting named; docs/operations.md lists them all."


class HomeUnusable(DaemonError):
    """MOSHID_HOME cannot be made or written, or belongs to somebody else."""

    kind = "daemon.home_unusable"
    default_hint = "Set MOSHID_HOME to a folder of yours that can be written."


class ShuttingDown(DaemonError):
    """The daemon is stopping and takes no new work."""

    kind = "daemon.shutting_down"
    retryable = True
    default_hint = "Start it again with `moshid run`, then repeat the call."


class ServiceFailed(DaemonError):
    """launchd or systemd refused to load or unload the job."""

    kind = "daemon.service_failed"
    default_hint = "Run the command named by hand to see more."


class WorkerDied(DaemonError):
    """A worker process ended while it was asked for something."""

    kind = "daemon.worker_died"
    retryable = True
    default_hint = "It is started again by itself; repeat the call."
