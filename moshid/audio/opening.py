"""Opens what a session was asked for: devices, files, or one of each. Owns that choice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from moshid.audio.controls import Controls
from moshid.audio.conversation import Conversation
from moshid.audio.devices import Sink, Source
from moshid.audio.fifo import is_pipe
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.pipe_sink import PipeSink, held_by
from moshid.audio.pipe_source import PipeSource
from moshid.audio.recorder import Recorder
from moshid.audio.request import Find, Start
from moshid.audio.verdict import Examiner
from moshid.errors import MoshidError, NoDevice

if TYPE_CHECKING:
    from moshid.audio.device_list import Device
    from moshid.audio.portaudio import PortAudioStream


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a session."""

    source: Source
    sink: Sink
    rate: int
    """The rate at which sound goes through the devices, or 24,000 between files."""


def open_ends(params: Start, tail_frames: int) -> Ends:
    """Open source and sink; what was opened is closed again when the other fails.

    Raises:
        NoDevice: no such device, or no PortAudio on this machine.
        DeviceFailed: the device cannot be opened.
        BadAudioFile: a file cannot be opened.
    """
    opened: list[Source | Sink] = []
    try:
        source, sink = None, None
        rate = SAMPLE_RATE
        if params.in_file is not None:
            opened.append(source := _open_source(params, params.in_file, tail_frames))
        if params.in_file is None or params.out_file is None:
            microphone, speaker, rate = _open_devices(params)
            opened += [half for half in (microphone, speaker) if half is not None]
            source, sink = source or microphone, speaker
        # Last, since it overwrites what was there.
        if params.out_file is not None:
            opened.append(sink := _open_sink(params, params.out_file))
    except MoshidError:
        for end in opened:
            end.close()
        raise
    assert source is not None
    assert sink is not None
    return Ends(held_by(source, sink), sink, rate)


def open_conversation(params: Start, ends: Ends) -> Conversation:
    """With its recorder and its examiner.

    Raises:
        RecordingFailed: it cannot be recorded there; the ends are closed again.
    """
    recorder = examiner = None
    if params.record is not None:
        to_file, may_wait = params.out_file is not None, ends.source.lossless
        try:
            recorder = Recorder(
                params.record,
                by_position=to_file,
                may_wait=may_wait,
                first_frame=params.first_frame,
            )
        except MoshidError:
            ends.source.close()
            ends.sink.close()
            raise
    if params.sound_check:
        examiner = Examiner(
            hears=params.in_file is None,
            speaks=params.out_file is None,
            told_ms=float(ends.sink.facts.get("latency_ms", 0.0)),
        )
    return Conversation(
        controls=Controls().changed(params.controls),
        recorder=recorder,
        examiner=examiner,
        pause_s_max=params.pause_s_max,
    )


def _open_source(params: Start, path: str, tail_frames: int) -> Source:
    from moshid.audio.files import FileSource

    kind = PipeSource if is_pipe(path) else FileSource
    return kind(path, fast=params.fast, tail_frames=tail_frames, seconds=params.seconds)


def _open_sink(params: Start, path: str) -> Sink:
    from moshid.audio.file_sink import FileSink

    if is_pipe(path):
        return PipeSink(path, fast=params.fast)
    return FileSink(path, may_wait=params.fast)


def find_devices(params: Start | Find) -> tuple[Device | None, Device | None]:
    """The microphone and the speaker that are meant; None where a file takes the place.

    Raises:
        NoDevice: no such device, or no PortAudio on this machine.
    """
    exact = isinstance(params, Start) and params.exact
    find = partial(_device_list().find_device, exact=exact)
    input_ = find(params.input, "input") if params.in_file is None else None
    output = find(params.output, "output") if params.out_file is None else None
    return input_, output


def offered() -> dict[str, Any]:
    """``{input, output}``: all devices, JSON-ready. Raises NoDevice: there is no PortAudio."""
    devices: dict[str, Any] = _device_list().offered()
    return devices


def _device_list() -> ModuleType:
    try:
        from moshid.audio import device_list
    except OSError as e:
        raise NoDevice(
            f"PortAudio cannot be loaded: {e}",
            hint="Install it (Debian: libportaudio2), or use --in FILE --out FILE.",
        ) from e
    except Exception as e:  # its own kind, which cannot be imported without starting it
        raise NoDevice(f"PortAudio does not start: {e}", hint="Or use --in FILE --out FILE.") from e
    return device_list


def _open_devices(params: Start) -> tuple[Source | None, Sink | None, int]:
    """The halves that are no files, and their rate: on one stream where they have one clock."""
    input_, output = find_devices(params)
    from moshid.audio.device_list import is_one_clock
    from moshid.audio.portaudio import PortAudioStream

    if input_ is None or output is None or is_one_clock(input_, output):
        stream = PortAudioStream(input_, output)
        stream.age_ns_max = round(1e9 * params.patience_s)
        return *_halves(stream, stream, params), round(stream.rate)
    hearing = PortAudioStream(input_, None)
    try:
        playing = PortAudioStream(None, output)
    except MoshidError:
        hearing.close()
        raise
    hearing.age_ns_max = playing.age_ns_max = round(1e9 * params.patience_s)
    return *_halves(hearing, playing, params), round(playing.rate)


def _halves(
    hearing: PortAudioStream, playing: PortAudioStream, params: Start
) -> tuple[Source | None, Sink | None]:
    from moshid.audio.clocks import TwoClocks
    from moshid.audio.device_list import JACK
    from moshid.audio.live import MicrophoneSource, SpeakerSink
    from moshid.audio.silence import SilenceWatch

    microphone, speaker = hearing.input, playing.output
    clocks = None if hearing is playing else TwoClocks(hearing, playing)
    # JACK gives zeros wherever nothing is connected, and a talk with a file cannot open it again.
    doubted = microphone is not None and microphone.hostapi != JACK and params.out_file is None
    silence = SilenceWatch(may_be_stuck=doubted, zeros_known=params.zeros_known)
    return (
        None if microphone is None else MicrophoneSource(hearing, silence, clocks=clocks),
        None if speaker is None else SpeakerSink(playing, clocks=clocks),
    )
