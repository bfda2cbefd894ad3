"""Sound files in place of microphone and speaker. Owns reading, pacing and the output's time line.

An input of any format, rate and channel count is mixed down and resampled to 24 kHz mono while it
is read. The output is what a listener would have heard, without the jitter of a real speaker: its
sample ``t`` is heard at ``t``, so the answer to the frame captured at position ``p`` stands at
``p + 1920``, once that frame was complete; what was never answered is silence. Input and output
laid above each other show the conversation as it was.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE, silence, to_int16
from moshid.audio.resample import Resampler
from moshid.audio.ring import Samples
from moshid.errors import OUT_FILE, BadAudioFile

READ_S: Final = 0.5
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

_ERRORS = (OSError, ValueError, TypeError, soundfile.SoundFileError)


class _ReadOn(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from its beginning to its end. After each block soundfile seeks to where
    it is already, and loses some 40 ms of an MP3 by that."""

    def seekable(self) -> bool:
        """Not needed."""
        return False


class FileSource:
    """A sound file, paced as a microphone would be, or as fast as frames are taken."""

    overruns = 0
    silent = False

    def __init__(self, path: str, *, fast: bool, tail_frames: int, seconds: float | None) -> None:
        """After the sound, or after ``seconds`` of it, come ``tail_frames`` of silence.

        Raises:
            BadAudioFile: missing, no regular file, or nothing libsndfile can read.
        """
        self._path = path
        self._file = _open_to_read(path)
        self._resample = Resampler(self._file.samplerate, SAMPLE_RATE, live=False)
        self.lossless = fast
        self._limit = None if seconds is None else round(seconds * SAMPLE_RATE)
        self.cut_short = False
        """Whether ``seconds`` ended it, and not the file."""
        self._tail_frames = tail_frames
        self._ready: list[Samples] = []
        self._ready_samples = 0
        self._read_samples = 0
        self._read_all = False
        self._frames = 0
        self._start_ns = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What the file is."""
        return {
            "file": self._path,
            "rate": self._file.samplerate,
            "channels": self._file.channels,
            "seconds": round(self._file.frames / self._file.samplerate, 3),
        }

    @property
    def ended(self) -> bool:
        """Whether sound and tail have been taken."""
        return self._read_all and self._ready_samples == 0 and self._tail_frames == 0

    def start(self, now_ns: int) -> None:
        """The first frame is complete 80 ms from now."""
        self._start_ns = now_ns

    def wait_s(self, now_ns: int) -> float:
        """Until the next frame's time."""
        if self.lossless:
            return 0.0
        return max(0.0, (self._complete_ns() - now_ns) / 1e9)

    def take(self, now_ns: int) -> Heard | None:
        """The next frame, when its time has come; the last one is filled up with silence."""
        if self.ended or self.wait_s(now_ns) > 0:
            return None
        capture_ns = now_ns if self.lossless else self._complete_ns()
        pcm = self._next_frame()
        if pcm is None:
            return None
        position = self._frames * FRAME_SAMPLES
        self._frames += 1
        return Heard(pcm, position, capture_ns)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _complete_ns(self) -> int:
        return self._start_ns + (self._frames + 1) * FRAME_NS

    def _next_frame(self) -> Samples | None:
        while self._ready_samples < FRAME_SAMPLES and not self._read_all:
            self._read_more()
        if self._ready_samples == 0:
            if self._tail_frames == 0:
                return None
            self._tail_frames -= 1
            return silence()
        joined = np.concatenate(self._ready)
        frame, rest = joined[:FRAME_SAMPLES], joined[FRAME_SAMPLES:]
        self._ready, self._ready_samples = [rest], len(rest)
        return np.pad(frame, (0, FRAME_SAMPLES - len(frame)))

    def _read_more(self) -> None:
        try:
            block = self._file.read(
                round(READ_S * self._file.samplerate), dtype="float32", always_2d=True
            )
        except _ERRORS as e:
            raise BadAudioFile(f"{self._path} cannot be read on: {e}") from e
        mono = np.ascontiguousarray(np.nan_to_num(block.mean(axis=1, dtype=np.float32)))
        pcm = self._resample.feed(mono, last=len(block) == 0)
        if self._limit is not None:
            pcm = pcm[: max(0, self._limit - self._read_samples)]
        self._read_samples += len(pcm)
        self.cut_short = self._read_samples == self._limit
        self._read_all = len(block) == 0 or self.cut_short
        self._ready.append(pcm)
        self._ready_samples += len(pcm)


class FileSink:
    """A sound file of 24 kHz mono, its format by its suffix: see ``FORMATS``."""

    underruns = 0
    late_frames = 0
    drift_ppm = None

    def __init__(self, path: str) -> None:
        """Raises BadAudioFile when it cannot be made, or its extension says no known format."""
        self._path = path
        self._file = _open_to_write(path)
        self._has_16_bits = self._file.subtype == "PCM_16"
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
        gap = position + FRAME_SAMPLES - self._written
        if gap > 0:
            self._write(np.zeros(gap, dtype=np.float32))
        self._write(pcm)
        return now_ns

    def rest(self) -> None:
        """Silence is written where nothing is answered anyway."""

    def pending_s(self) -> float:
        """Nothing is ever pending."""
        return 0.0

    def close(self) -> None:
        """Mend the header and close."""
        self._file.close()

    def _write(self, pcm: Samples) -> None:
        try:
            self._file.write(to_int16(pcm) if self._has_16_bits else np.clip(pcm, -1.0, 1.0))
        except _ERRORS as e:
            raise BadAudioFile(f"{self._path} cannot be written: {e}") from e
        self._written += len(pcm)


def _open_to_read(path: str) -> soundfile.SoundFile:
    if not Path(path).exists():
        raise BadAudioFile(f"there is no file {path}")
    if not Path(path).is_file():
        raise BadAudioFile(f"{path} is no regular file and no pipe")
    if Path(path).suffix.lower() in (".raw", ".pcm"):
        raise BadAudioFile(
            f"{path} is raw PCM, which does not say its rate or format",
            hint="As 16 bits, mono, 24 kHz it can come through stdin: --in - < FILE.",
        )
    try:
        return _ReadOn(path)
    except _ERRORS as e:
        raise BadAudioFile(f"{path} is no sound file that can be read: {e}") from e


def _open_to_write(path: str) -> soundfile.SoundFile:
    if not Path(path).parent.is_dir():
        raise BadAudioFile(
            f"there is no folder {Path(path).parent} to write {Path(path).name} in", hint=OUT_FILE
        )
    if Path(path).is_dir():
        raise BadAudioFile(f"{path} is a folder", hint=OUT_FILE)
    suffix = Path(path).suffix.lower()
    if suffix and suffix not in FORMATS:
        raise BadAudioFile(
            f"no sound format is known by the suffix {suffix}",
            hint=f"Give --out a path that ends with one of {' '.join(FORMATS)}.",
        )
    kind, subtype = FORMATS[suffix or ".wav"]
    _try_to_write(path)
    try:
        return soundfile.SoundFile(
            path, "w", samplerate=SAMPLE_RATE, channels=1, format=kind, subtype=subtype
        )
    except _ERRORS as e:
        raise BadAudioFile(f"{path} cannot be written: {e}") from e


def _try_to_write(path: str) -> None:
    """All that libsndfile would say is "System error"."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as e:
        raise BadAudioFile(f"{path} cannot be written: {e.strerror}", hint=OUT_FILE) from e
