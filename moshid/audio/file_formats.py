"""What writes a sound file of ours: 24 kHz mono, in any of the formats. Owns those formats.

A file can be read however its writer ends. The header of a WAV (``wav``), and of each other format
that has a length in it, is brought up to date with each second of sound. An Opus is written page by
page of a fifth of a second. An MP3 has one bit rate: how long it is, readers tell by its first
frame where nothing else says so, and many go no further than that.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import soundfile

from moshid.audio.flac import TOTAL_AT
from moshid.audio.frames import SAMPLE_RATE, to_int16
from moshid.audio.ring import Samples
from moshid.audio.wav import FILE_BYTES_MAX, WavWriter

FORMATS: Final = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".aif": ("AIFF", "PCM_16"),
    ".aiff": ("AIFF", "PCM_16"),
    ".au": ("AU", "PCM_16"),
    ".caf": ("CAF", "PCM_16"),
    ".w64": ("W64", "PCM_16"),
}
"""What is written, by the path's suffix; a path without one is a WAV."""

SETTLE_SAMPLES: Final = SAMPLE_RATE
UPDATE_HEADER_NOW: Final = 0x1060
"""libsndfile's SFC_UPDATE_HEADER_NOW, which soundfile has no method for."""

SET_OGG_PAGE_LATENCY_MS: Final = 0x1302
"""Its SFC_SET_OGG_PAGE_LATENCY_MS, which obeys for Opus only."""

OPUS_PAGE_MS: Final = 200.0
"""A second by itself; this costs 4 % more bytes."""

MP3_RATE: Final = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
"""80 kbit/s."""

HEADERS_BY_LIBSNDFILE: Final = frozenset(("AIFF", "AU", "CAF", "W64"))
FLAC_BLOCK_SAMPLES: Final = 4096

_ERRORS = (ValueError, TypeError, AssertionError, soundfile.SoundFileError)


class Writer(Protocol):
    """Writes samples; raises OSError with what the system says."""

    def write(self, pcm: Samples) -> None:
        """Append float32 [n]."""

    def close(self) -> None:
        """Finish the file. Safe to call twice."""


class _Wav:
    """A WAV whose header is never more than a second of sound behind."""

    def __init__(self, path: str, fd: int) -> None:
        self._wav: WavWriter | None = WavWriter(Path(path), channels=1, fd=fd)
        self._settled = 0

    def write(self, pcm: Samples) -> None:
        assert self._wav is not None
        data = to_int16(pcm).tobytes()
        if self._wav.size_bytes + len(data) > FILE_BYTES_MAX:
            raise OSError(errno.EFBIG, "a WAV holds no more than 4.29 GB, a .w64 does")
        self._wav.write(data)
        if self._wav.samples - self._settled >= SETTLE_SAMPLES:
            self._wav.settle()
            self._settled = self._wav.samples

    def close(self) -> None:
        wav, self._wav = self._wav, None
        if wav is not None:
            wav.close(sync=False)


class _Disk:
    """The file that libsndfile writes. It keeps what the system said, which libsndfile does not
    hand on; at the end of a file it would not even say that anything was wrong."""

    def __init__(self, fd: int) -> None:
        self.file = os.fdopen(fd, "wb", buffering=0)
        self.seek, self.tell = self.file.seek, self.file.tell
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """How many bytes were written; fewer than there are when it failed."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as e:
            self.error = self.error or e
        return size - len(left)


class _Encoded:
    """A file of any format, by libsndfile."""

    def __init__(self, fd: int, kind: str, subtype: str) -> None:
        self._disk = _Disk(fd)
        self._kind = kind
        self._has_16_bits = subtype == "PCM_16"
        self._samples = self._settled = 0
        self._sound: soundfile.SoundFile | None = None
        form = {"samplerate": SAMPLE_RATE, "channels": 1, "format": kind, "subtype": subtype}
        form |= MP3_RATE if kind == "MP3" else {}
        try:
            with self._telling():
                self._sound = soundfile.SoundFile(self._disk, "w", **form)
            if subtype == "OPUS":
                page_ms = soundfile._ffi.new("double*", OPUS_PAGE_MS)
                _command(self._sound, SET_OGG_PAGE_LATENCY_MS, page_ms, 8)
        except OSError:
            with suppress(OSError):
                self.close()
            raise

    def write(self, pcm: Samples) -> None:
        assert self._sound is not None
        with self._telling():
            self._sound.write(to_int16(pcm) if self._has_16_bits else np.clip(pcm, -1.0, 1.0))
            self._samples += len(pcm)
            if self._samples - self._settled >= SETTLE_SAMPLES:
                self._settle(self._sound)
                self._settled = self._samples

    def close(self) -> None:
        if self._disk.file.closed:
            return
        try:
            with self._telling():
                if self._sound is not None:
                    self._sound.close()
        finally:
            self._disk.file.close()

    def _settle(self, sound: soundfile.SoundFile) -> None:
        """Bring the header up to date."""
        if self._kind in HEADERS_BY_LIBSNDFILE:
            _command(sound, UPDATE_HEADER_NOW, soundfile._ffi.NULL, 0)
        elif self._kind == "FLAC":
            # libFLAC knows the total at the end only; 0, until then, is read as 2**63 by some. It
            # holds back one sample beyond a whole block, to know whether that is the last one.
            total = (self._samples - 1) // FLAC_BLOCK_SAMPLES * FLAC_BLOCK_SAMPLES
            field = (0xF << 36 | total).to_bytes(5, "big")
            os.pwrite(self._disk.file.fileno(), field, TOTAL_AT)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as e:
            raise self._disk.error or OSError(errno.EIO, str(e)) from e
        if self._disk.error is not None:
            raise self._disk.error


def _command(sound: soundfile.SoundFile, command: int, data: Any, size: int) -> None:
    """Ask libsndfile for what soundfile has no method for."""
    soundfile._snd.sf_command(sound._file, command, data, size)


def open_writer(fd: int, path: str, form: tuple[str, str]) -> Writer:
    """Empties the file behind ``fd``, which is closed with the writer, or when this fails.

    Raises:
        OSError: what the system says.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return _Encoded(fd, *form)
    try:
        os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return _Wav(path, fd) if form[0] == "WAV" else _Encoded(fd, *form)
