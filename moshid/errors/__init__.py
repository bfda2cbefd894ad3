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
    │  ├─ DownloadWaits          download.waits
    │  │  ├─ OutsideSchedule     download.waits_for_schedule
    │  │  └─ MeteredLine         download.waits_for_line
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
    │  ├─ NotFinite              model.not_finite
    │  ├─ ModelFilesGone         model.files_gone
    │  ├─ ModelWorkerDied        model.worker_died
    │  ├─ ModelWanted            model.wanted
    │  ├─ ModelStuck             model.stuck
    │  ├─ ModelStalled           model.stalled
    │  ├─ ModelStepFailed        model.step_failed
    │  └─ ModelCrashLoop         model.crash_loop
    ├─ AudioError
    │  ├─ NoDevice               audio.no_device
    │  ├─ AudioPermission        audio.permission
    │  ├─ BadAudioFile           audio.bad_file
    │  ├─ RecordingFailed        audio.recording_failed
    │  ├─ DeviceFailed           audio.device_failed
    │  ├─ AudioWorkerDied        audio.worker_died
    │  └─ CodecDied              audio.codec_died
    └─ TalkError
       ├─ TalkBusy               talk.busy
       ├─ NoTalk                 talk.none
       └─ TalkConfirm            talk.confirm_download
"""

from __future__ import annotations

from typing import Any

from moshid.errors.base import MoshidError as MoshidError
from moshid.errors.control import ABSOLUTE_PATH as ABSOLUTE_PATH
from moshid.errors.control import AlreadyRunning as AlreadyRunning
from moshid.errors.control import BadSettings as BadSettings
from moshid.errors.control import DaemonError as DaemonError
from moshid.errors.control import HomeUnusable as HomeUnusable
from moshid.errors.control import InternalError as InternalError
from moshid.errors.control import InvalidParams as InvalidParams
from moshid.errors.control import InvalidRequest as InvalidRequest
from moshid.errors.control import LineTooLong as LineTooLong
from moshid.errors.control import MethodNotFound as MethodNotFound
from moshid.errors.control import ParseFailed as ParseFailed
from moshid.errors.control import ProtocolMismatch as ProtocolMismatch
from moshid.errors.control import RequestCancelled as RequestCancelled
from moshid.errors.control import RpcError as RpcError
from moshid.errors.control import ServiceFailed as ServiceFailed
from moshid.errors.control import ShuttingDown as ShuttingDown
from moshid.errors.control import SocketPathTooLong as SocketPathTooLong
from moshid.errors.control import TooManyRequests as TooManyRequests
from moshid.errors.control import WorkerDied as WorkerDied
from moshid.errors.downloads import DigestMismatch as DigestMismatch
from moshid.errors.downloads import DiskFull as DiskFull
from moshid.errors.downloads import DownloadError as DownloadError
from moshid.errors.downloads import DownloadGated as DownloadGated
from moshid.errors.downloads import DownloadNetwork as DownloadNetwork
from moshid.errors.downloads import DownloadNotFound as DownloadNotFound
from moshid.errors.downloads import DownloadOffline as DownloadOffline
from moshid.errors.downloads import DownloadUnauthorized as DownloadUnauthorized
from moshid.errors.downloads import DownloadWaits as DownloadWaits
from moshid.errors.downloads import LedgerBroken as LedgerBroken
from moshid.errors.downloads import LedgerTooNew as LedgerTooNew
from moshid.errors.downloads import MeteredLine as MeteredLine
from moshid.errors.downloads import NoDigest as NoDigest
from moshid.errors.downloads import NoSuchJob as NoSuchJob
from moshid.errors.downloads import OutputUnusable as OutputUnusable
from moshid.errors.downloads import OutsideSchedule as OutsideSchedule
from moshid.errors.downloads import PartialLocked as PartialLocked
from moshid.errors.downloads import VolumeMissing as VolumeMissing
from moshid.errors.downloads import WrongJobState as WrongJobState
from moshid.errors.work import OUT_FILE as OUT_FILE
from moshid.errors.work import AudioError as AudioError
from moshid.errors.work import AudioPermission as AudioPermission
from moshid.errors.work import AudioWorkerDied as AudioWorkerDied
from moshid.errors.work import BadAudioFile as BadAudioFile
from moshid.errors.work import BadCheckpoint as BadCheckpoint
from moshid.errors.work import CodecDied as CodecDied
from moshid.errors.work import DeviceFailed as DeviceFailed
from moshid.errors.work import ModelCrashLoop as ModelCrashLoop
from moshid.errors.work import ModelError as ModelError
from moshid.errors.work import ModelFilesGone as ModelFilesGone
from moshid.errors.work import ModelInUse as ModelInUse
from moshid.errors.work import ModelNotFound as ModelNotFound
from moshid.errors.work import ModelNotLoaded as ModelNotLoaded
from moshid.errors.work import ModelOutOfMemory as ModelOutOfMemory
from moshid.errors.work import ModelStalled as ModelStalled
from moshid.errors.work import ModelStepFailed as ModelStepFailed
from moshid.errors.work import ModelStuck as ModelStuck
from moshid.errors.work import ModelWanted as ModelWanted
from moshid.errors.work import ModelWorkerDied as ModelWorkerDied
from moshid.errors.work import NoDevice as NoDevice
from moshid.errors.work import NoTalk as NoTalk
from moshid.errors.work import NotFinite as NotFinite
from moshid.errors.work import RecordingFailed as RecordingFailed
from moshid.errors.work import TalkBusy as TalkBusy
from moshid.errors.work import TalkConfirm as TalkConfirm
from moshid.errors.work import TalkError as TalkError


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
