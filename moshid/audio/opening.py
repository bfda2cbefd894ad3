"""Opens what a session was asked for: devices, files, or one of each. Owns that choice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moshid.audio.devices import Sink, Source
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.request import Start
from moshid.errors import MoshidError, NoDevice

if TYPE_CHECKING:
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
            stream = _open_stream(params)
            rate = round(stream.rate)
            microphone, speaker = _halves(stream)
            opened += [half for half in (microphone, speaker) if half is not None]
            source, sink = source or microphone, speaker
        # Last, since it overwrites what was there.
        if params.out_file is not None:
            opened.append(sink := _open_sink(params.out_file))
    except MoshidError:
        for end in opened:
            end.close()
        raise
    assert source is not None
    assert sink is not None
    return Ends(source, sink, rate)


def _open_source(params: Start, path: str, tail_frames: int) -> Source:
    from moshid.audio.files import FileSource

    return FileSource(path, fast=params.fast, tail_frames=tail_frames, seconds=params.seconds)


def _open_sink(path: str) -> Sink:
    from moshid.audio.files import FileSink

    return FileSink(path)


def _open_stream(params: Start) -> PortAudioStream:
    try:
        from moshid.audio.device_list import find_device
        from moshid.audio.portaudio import PortAudioStream
    except OSError as e:
        raise NoDevice(
            f"PortAudio cannot be loaded: {e}",
            hint="Install it (Debian: libportaudio2), or use --in FILE --out FILE.",
        ) from e
    return PortAudioStream(
        find_device(params.input, "input") if params.in_file is None else None,
        find_device(params.output, "output") if params.out_file is None else None,
    )


def _halves(stream: PortAudioStream) -> tuple[Source | None, Sink | None]:
    from moshid.audio.live import MicrophoneSource, SpeakerSink

    return (
        MicrophoneSource(stream) if stream.input is not None else None,
        SpeakerSink(stream) if stream.output is not None else None,
    )
