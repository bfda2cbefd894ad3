"""The error tree. Owns every failure a user can be told about; imports nothing of moshid.

Each class has a ``kind`` (what clients switch on), a JSON-RPC ``code``, a default ``hint`` (what
to do about it) and ``retryable`` (whether the same call may succeed later, unchanged).

::

    MoshidError
    ├─ RpcError
    │  ├─ ParseFailed            rpc.parse_error
    │  ├─ InvalidRequest         rpc.invalid_request
    │  ├─ MethodNotFound         rpc.method_not_found
    │  ├─ InvalidParams          rpc.invalid_params
    │  ├─ LineTooLong            rpc.line_too_long
    │  ├─ TooManyRequests        rpc.too_many_requests
    │  ├─ RequestCancelled       rpc.cancelled
    │  ├─ ProtocolMismatch       rpc.protocol_mismatch
    │  └─ InternalError          rpc.internal
    ├─ DaemonError
    │  ├─ AlreadyRunning         daemon.already_running
    │  ├─ SocketPathTooLong      daemon.socket_path_too_long
    │  ├─ BadSettings            daemon.bad_settings
    │  ├─ HomeUnusable           daemon.home_unusable
    │  ├─ ShuttingDown           daemon.shutting_down
    │  ├─ ServiceFailed          daemon.service_failed
    │  └─ WorkerDied             daemon.worker_died
    ├─ DownloadError
    │  ├─ DownloadNotFound       download.not_found
    │  ├─ DownloadGated          download.gated
    │  ├─ DownloadUnauthorized   download.unauthorized
    │  ├─ DownloadNetwork        download.network
    │  ├─ DownloadOffline        download.offline
    │  ├─ DiskFull               download.disk_full
    │  ├─ VolumeMissing          download.volume_missing
    │  ├─ DigestMismatch         download.digest_mismatch
    │  ├─ NoDigest               download.no_digest
    │  ├─ OutputUnusable         download.bad_output
    │  ├─ PartialLocked          download.locked
    │  ├─ LedgerTooNew           download.ledger_too_new
    │  ├─ LedgerBroken           download.ledger_broken
    │  ├─ NoSuchJob              download.no_such_job
    │  └─ WrongJobState          download.wrong_state
    ├─ ModelError
    │  ├─ ModelNotFound          model.not_found
    │  ├─ ModelNotLoaded         model.not_loaded
    │  ├─ ModelInUse             model.in_use
    │  ├─ ModelOutOfMemory       model.out_of_memory
    │  ├─ BadCheckpoint          model.bad_checkpoint
    │  ├─ ModelWorkerDied        model.worker_died
    │  └─ ModelCrashLoop         model.crash_loop
    ├─ AudioError
    │  ├─ NoDevice               audio.no_device
    │  ├─ AudioPermission        audio.permission
    │  ├─ BadAudioFile           audio.bad_file
    │  ├─ DeviceFailed           audio.device_failed
    │  └─ AudioWorkerDied        audio.worker_died
    └─ TalkError
       ├─ TalkBusy               talk.busy
       ├─ NoTalk                 talk.none
       └─ TalkConfirm            talk.confirm_download
"""

from __future__ import annotations

from typing import Any, ClassVar


class MoshidError(Exception):
    """A failure with a kind, a hint and a place in the tree above."""

    kind: ClassVar[str] = "moshid.error"
    code: ClassVar[int] = -32000
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = "See the daemon's log: moshi-client logs."

    def __init__(self, message: str, *, hint: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.facts = facts
        """JSON-ready details, merged into the error's data (for example a talk's owner)."""

    def to_data(self) -> dict[str, Any]:
        """The JSON-RPC ``data`` member: kind, hint, retryable and the facts."""
        return {"kind": self.kind, "hint": self.hint, "retryable": self.retryable, **self.facts}


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


class DownloadError(MoshidError):
    """A download cannot go on."""

    kind = "download.error"


class DownloadNotFound(DownloadError):
    """The Hub has no such repository, revision or file."""

    kind = "download.not_found"
    default_hint = "Check the spelling of the repository, the revision and the file."


class DownloadGated(DownloadError):
    """The repository wants its terms accepted first."""

    kind = "download.gated"
    default_hint = (
        "Accept the terms on the repository's page, log in (huggingface-cli login), resume."
    )


class DownloadUnauthorized(DownloadError):
    """The Hub refused the token, or wants one."""

    kind = "download.unauthorized"
    default_hint = "Log in with a valid token (huggingface-cli login), then resume the job."


class DownloadNetwork(DownloadError):
    """The line is down or keeps breaking; the job goes on trying by itself."""

    kind = "download.network"
    retryable = True
    default_hint = "Nothing is lost; the download goes on when the line does."


class DownloadOffline(DownloadError):
    """HF_HUB_OFFLINE forbids the network and the files are not in the cache."""

    kind = "download.offline"
    default_hint = "Unset HF_HUB_OFFLINE and restart the daemon, or bring the files into the cache."


class DiskFull(DownloadError):
    """No room on the cache's volume; the job pauses and goes on when there is room."""

    kind = "download.disk_full"
    retryable = True
    default_hint = "Free some space; the job goes on by itself, nothing is fetched twice."


class VolumeMissing(DownloadError):
    """The volume that holds the cache is not there."""

    kind = "download.volume_missing"
    retryable = True
    default_hint = "Connect the volume; the job goes on by itself."


class DigestMismatch(DownloadError):
    """The bytes do not have the digest that the Hub names."""

    kind = "download.digest_mismatch"
    default_hint = "Run `moshi-client verify MODEL --repair` to fetch the bad chunks again."


class NoDigest(DownloadError):
    """The server names no digest that could prove the file."""

    kind = "download.no_digest"
    default_hint = "Use a Hub that sends X-Linked-Etag (SHA-256) or a git blob id as ETag."


class OutputUnusable(DownloadError):
    """The file of a URL cannot be put where it is wanted."""

    kind = "download.bad_output"
    default_hint = "Choose another path, or remove what is there."


class PartialLocked(DownloadError):
    """Another moshid, of another home, is writing the same partial file."""

    kind = "download.locked"
    retryable = True
    default_hint = "Let the other daemon finish, or stop it, then resume this job."


class LedgerTooNew(DownloadError):
    """ledger.db was written by a newer moshid; it is left untouched."""

    kind = "download.ledger_too_new"
    default_hint = "Install the newer moshid again, or move ledger.db away to start afresh."


class LedgerBroken(DownloadError):
    """ledger.db is no readable SQLite ledger."""

    kind = "download.ledger_broken"
    default_hint = "Move ledger.db away and start again; finished files in the cache are kept."


class NoSuchJob(DownloadError):
    """No download job of that id."""

    kind = "download.no_such_job"
    default_hint = "List the jobs: moshi-client downloads."


class WrongJobState(DownloadError):
    """The job's state does not allow this."""

    kind = "download.wrong_state"
    default_hint = "Look at the job's state: moshi-client downloads."


class ModelError(MoshidError):
    """The model cannot be found, loaded or run."""

    kind = "model.error"


class ModelNotFound(ModelError):
    """No such model in the catalogue, or not on disk."""

    kind = "model.not_found"
    default_hint = (
        "List what there is (moshi-client models), or fetch it: moshi-client download MODEL."
    )


class ModelNotLoaded(ModelError):
    """No model is resident."""

    kind = "model.not_loaded"
    retryable = True
    default_hint = "Load one: moshi-client load MODEL."


class ModelInUse(ModelError):
    """The model is loaded, or being downloaded, and cannot be deleted."""

    kind = "model.in_use"
    default_hint = "Unload it (moshi-client unload), or pause or cancel its download, then repeat."


class ModelOutOfMemory(ModelError):
    """The model does not fit into memory."""

    kind = "model.out_of_memory"
    default_hint = "Choose a smaller quality (--quality q4), or close other programs."


class BadCheckpoint(ModelError):
    """A file of the checkpoint is missing, damaged or does not fit the configuration."""

    kind = "model.bad_checkpoint"
    default_hint = "Check it with `moshi-client verify MODEL`, then fetch it again."


class ModelWorkerDied(ModelError):
    """The model's process ended while it was working."""

    kind = "model.worker_died"
    retryable = True
    default_hint = "It is started again by itself; repeat the call in a moment."


class ModelCrashLoop(ModelError):
    """The model's process died too often in a row; it is left stopped."""

    kind = "model.crash_loop"
    default_hint = "See `moshi-client logs`, then load the model again."


class AudioError(MoshidError):
    """Sound cannot be taken, played, read or written."""

    kind = "audio.error"


class NoDevice(AudioError):
    """No such sound device, or none at all."""

    kind = "audio.no_device"
    default_hint = "List the devices (moshi-client devices), or use --in FILE --out FILE."


class AudioPermission(AudioError):
    """The system withholds the microphone."""

    kind = "audio.permission"
    default_hint = "macOS: System Settings, Privacy & Security, Microphone: allow moshid."


class BadAudioFile(AudioError):
    """A sound file cannot be read or written."""

    kind = "audio.bad_file"
    default_hint = "Give a file that libsndfile reads (WAV, FLAC, Ogg, ...), by a path that exists."


class DeviceFailed(AudioError):
    """The device could not be opened, or stopped working."""

    kind = "audio.device_failed"
    retryable = True
    default_hint = "Check the sound settings, or choose another device (moshi-client devices)."


class AudioWorkerDied(AudioError):
    """The audio process ended while it was working."""

    kind = "audio.worker_died"
    retryable = True
    default_hint = "Start the talk again; a fresh audio process is ready."


class TalkError(MoshidError):
    """A talk cannot start or go on."""

    kind = "talk.error"


class TalkBusy(TalkError):
    """There is a talk already; one a daemon."""

    kind = "talk.busy"
    retryable = True
    default_hint = "Stop it first (moshi-client call talk.stop), or wait for its end."


class NoTalk(TalkError):
    """No talk is going on."""

    kind = "talk.none"
    default_hint = "Start one: moshi-client talk."


class TalkConfirm(TalkError):
    """The model is not on disk and weighs over 1 GB: the caller has to agree first."""

    kind = "talk.confirm_download"
    default_hint = "Answer with --yes (confirm: true), or run moshi-client download first."


def all_errors(root: type[MoshidError] = MoshidError) -> list[type[MoshidError]]:
    """Every class of the tree below ``root``, depth first."""
    found: list[type[MoshidError]] = []
    for child in root.__subclasses__():
        found += [child, *all_errors(child)]
    return found


def from_data(message: str, data: dict[str, Any]) -> MoshidError:
    """Rebuild an error that crossed a process boundary by its ``kind`` (see ``to_data``)."""
    facts = {k: v for k, v in data.items() if k not in ("kind", "hint", "retryable")}
    for cls in all_errors():
        if cls.kind == data.get("kind"):
            return cls(message, hint=data.get("hint"), **facts)
    return MoshidError(message, hint=data.get("hint"), **facts)
