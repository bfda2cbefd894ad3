"""A sound file in place of the speaker. Owns its formats and its time line.

It is what a listener would have heard, without the jitter of a real speaker: sample ``t`` is heard
at ``t``, so the answer to the frame captured at position ``p`` stands at ``p + 1920``, once that
frame was complete; what was never answered is silence. Input and output laid above each other show
the conversation as it was. A WAV is whole at every moment, however its writer ends (``wav``); of
the other formats libsndfile knows the end when it has come.
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

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, to_int16
from moshid.audio.ring import Samples
from moshid.audio.wav import FILE_BYTES_MAX, WavWriter
from moshid.errors import OUT_FILE, BadAudioFile

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
_ERRORS = (ValueError, TypeError, AssertionError, soundfile.SoundFileError)


class FileSink:
    """A sound file of 24 kHz mono, its format by its suffix: see ``FORMATS``."""

    underruns = 0
    late_frames = 0
    drift_ppm = None

    def __init__(self, path: str) -> None:
        """Raises BadAudioFile when it cannot be made, or its extension says no known format."""
        self._path = path
        self._file = _open(path)
        self._written = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What is written."""
        return {"file": self._path, "rate": SAMPLE_RATE, "channels": 1}

    def start(self, now_ns: int) -> None:
        """The file's time line starts at position 0 whenever this is."""

    def too_late(self, position: int, now_ns: int) -> bool:  # noqa: ARG002
        """Never: a file waits."""
        return False

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:
        """Write the answer at ``position + 1920``, after silence where nothing was answered."""
        while (gap := position + FRAME_SAMPLES - self._written) > 0:
            # By the second: a microphone may have been away for hours.
            self._write(np.zeros(min(gap, SAMPLE_RATE), dtype=np.float32))
        self._write(pcm)
        return now_ns

    def rest(self) -> None:
        """Silence is written where nothing is answered anyway."""

    def pending_s(self) -> float:
        """Nothing is ever pending."""
        return 0.0

    def close(self) -> None:
        """Finish the file. Raises BadAudioFile when the disk did not take its end."""
        try:
            self._file.close()
        except OSError as e:
            raise _unwritable(self._path, e) from e

    def _write(self, pcm: Samples) -> None:
        try:
            self._file.write(pcm)
        except OSError as e:
            raise _unwritable(self._path, e) from e
        self._written += len(pcm)


class _Writer(Protocol):
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
        self._has_16_bits = subtype == "PCM_16"
        self._sound: soundfile.SoundFile | None = None
        form = {"samplerate": SAMPLE_RATE, "channels": 1, "format": kind, "subtype": subtype}
        try:
            with self._telling():
                self._sound = soundfile.SoundFile(self._disk, "w", **form)
        except OSError:
            with suppress(OSError):
                self.close()
            raise

    def write(self, pcm: Samples) -> None:
        assert self._sound is not None
        with self._telling():
            self._sound.write(to_int16(pcm) if self._has_16_bits else np.clip(pcm, -1.0, 1.0))

    def close(self) -> None:
        if self._disk.file.closed:
            return
        try:
            with self._telling():
                if self._sound is not None:
                    self._sound.close()
        finally:
            self._disk.file.close()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as e:
            raise self._disk.error or OSError(errno.EIO, str(e)) from e
        if self._disk.error is not None:
            raise self._disk.error


def _open(path: str) -> _Writer:
    """Every check before the file that may be there is emptied.

    Raises:
        BadAudioFile: it cannot be made, or its suffix says no known format.
    """
    if os.path.isdir(path):
        raise BadAudioFile(f"{path} is a folder", hint=OUT_FILE)
    suffix = Path(path).suffix.lower()
    if suffix and suffix not in FORMATS:
        raise BadAudioFile(
            f"no sound format is known by the suffix {suffix}",
            hint=f"Give --out a path that ends with one of {' '.join(FORMATS)}.",
        )
    kind, subtype = FORMATS[suffix or ".wav"]
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        if kind == "WAV" and stat.S_ISREG(os.fstat(fd).st_mode):
            return _Wav(path, fd)
        return _Encoded(fd, kind, subtype)
    except OSError as e:
        folder, name = os.path.split(path)
        if isinstance(e, FileNotFoundError | NotADirectoryError) and not os.path.isdir(folder):
            missing = f"there is no folder {folder} to write {name} in"
            raise BadAudioFile(missing, hint=OUT_FILE) from e
        raise _unwritable(path, e) from e
    except ValueError as e:
        raise BadAudioFile(f"{path!r} is no path: {e}", hint=OUT_FILE) from e


def _unwritable(path: str, error: OSError) -> BadAudioFile:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Make room, or give --out a file on another disk." if full else OUT_FILE
    return BadAudioFile(f"{path} cannot be written: {error.strerror}", hint=hint)
