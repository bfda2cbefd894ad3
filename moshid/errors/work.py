"""Errors of models, sound and talks."""

from __future__ import annotations

from moshid.errors.base import MoshidError


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


class NotFinite(ModelError):
    """The model computes no numbers: its weights are damaged, or the device went wrong."""

    kind = "model.not_finite"
    retryable = True
    default_hint = "It is loaded again by itself. If that does not help: moshi-client verify MODEL."


class ModelFilesGone(ModelError):
    """The volume that holds the model went away while it was read."""

    kind = "model.files_gone"
    retryable = True
    default_hint = "Connect the volume that holds the model, then load it again."


class ModelWorkerDied(ModelError):
    """The model's process ended while it was working."""

    kind = "model.worker_died"
    retryable = True
    default_hint = "It is started again by itself; repeat the call in a moment."


class ModelCrashLoop(ModelError):
    """The model's process died too often in a row; it is left stopped."""

    kind = "model.crash_loop"
    default_hint = "See `moshi-client logs`, then load the model again."


class ModelStuck(ModelError):
    """The same frame came out again and again, whatever was heard."""

    kind = "model.stuck"
    retryable = True
    default_hint = "It is started again by itself; see `moshi-client logs` if it goes on."


class ModelWanted(ModelError):
    """A benchmark gave way: the model was wanted for something else."""

    kind = "model.wanted"
    retryable = True
    default_hint = "Repeat the call when the model has nothing else to do."


class ModelStalled(ModelError):
    """A step took longer than `model_step_timeout_s`."""

    kind = "model.stalled"
    retryable = True
    default_hint = "It is started again by itself; see what else keeps the machine busy."


class ModelStepFailed(ModelError):
    """A step failed: the device went away, or refused."""

    kind = "model.step_failed"
    retryable = True
    default_hint = "It is started again by itself; see `moshi-client logs` if it goes on."


class AudioError(MoshidError):
    """Sound cannot be taken, played, read or written."""

    kind = "audio.error"


class NoDevice(AudioError):
    """No such sound device, or none at all."""

    kind = "audio.no_device"
    default_hint = "List the devices (moshi-client devices), or use --in FILE --out FILE."


class AudioPermission(AudioError):
    """The microphone gives only zeros: it is muted, or the system withholds it."""

    kind = "audio.permission"
    default_hint = (
        "Is it muted? macOS: System Settings, Privacy & Security, Microphone: allow moshid."
    )


class BadAudioFile(AudioError):
    """A sound file cannot be read or written."""

    kind = "audio.bad_file"
    default_hint = "Give a file that libsndfile reads (WAV, FLAC, Ogg, ...), by a path that exists."


OUT_FILE = "Give --out a file in a folder that is there and can be written."
"""The hint of ``BadAudioFile`` where it is the output."""


class RecordingFailed(AudioError):
    """A talk cannot be recorded where it was asked to be."""

    kind = "audio.recording_failed"
    default_hint = "Give --record a folder that can be written; it is made if it is missing."


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


class CodecDied(AudioError):
    """The codec's process ended, or hung, and so did the one that was to replace it."""

    kind = "audio.codec_died"
    retryable = True
    default_hint = "Is the machine out of memory? `moshi-client logs` may tell more."


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
