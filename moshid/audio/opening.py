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
    source: Source | None = None
    sink: Sink | None = None
    try:
        if params.in_file is not None:
            source = _open_source(params, params.in_file, tail_frames)
        if params.out_file is not None:
            sink = _open_sink(params.out_file)
        if source is not None and sink is not None:
            return Ends(source, sink, SAMPLE_RATE)
        stream = _open_stream(params)
        return _join(stream, source, sink)
    except MoshidError:
        for end in (source, sink):
            if end is not None:
                end.close()
        raise


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


def _join(stream: PortAudioStream, source: Source | None, sink: Sink | None) -> Ends:
    from moshid.audio.portaudio import MicrophoneSource, SpeakerSink

    return Ends(source or MicrophoneSource(stream), sink or SpeakerSink(stream), round(stream.rate))
