"""A sound file in place of the microphone. Owns its reading and its pacing.

Any format, rate and channel count is mixed down and resampled to 24 kHz mono while it is read.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile

from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE, silence
from moshid.audio.mp3 import MP3_FRAME, Mp3
from moshid.audio.resample import Resampler
from moshid.audio.ring import Samples
from moshid.audio.unfinished import Unfinished, find_size
from moshid.errors import BadAudioFile

READ_S: Final = 0.5
RATES: Final = range(1_000, 1_000_001)
"""What a damaged header says beyond that, the resampler may not survive."""

FRAMES_MAX: Final = 2**45
"""libsndfile says 2**63 - 1 where a file does not tell its length, and for some MP3s a little more
than this."""

JUNK_READS_MAX: Final = 64
"""A kilobyte each. After that there is nothing more to be heard."""

PEAK: Final = 10.0
"""Of a file in floating point, 20 dB over full scale. What is no number is silence: it would
deafen the codec for seconds."""

_ERRORS = (OSError, ValueError, TypeError, soundfile.SoundFileError)


class _ReadOn(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from its beginning to its end. After each block soundfile seeks to where
    it is already, and loses some 40 ms of an MP3 by that."""

    def __init__(self, path: str, beneath: Unfinished | Mp3 | None) -> None:
        """``beneath``: what it is read from, if not by its path; closed with it."""
        self._beneath = beneath
        try:
            super().__init__(path if beneath is None else beneath)
        except BaseException:
            self._close_beneath()
            raise

    def close(self) -> None:
        """Safe to call twice."""
        super().close()
        self._close_beneath()

    def _close_beneath(self) -> None:
        if self._beneath is not None:
            self._beneath.close()

    def seekable(self) -> bool:
        """Not needed."""
        return False

    def read_on(self) -> Samples:
        """The next block, float32 [n, channels]; an empty one at the end. Raises what libsndfile
        does; but in an MP3 that is only something else, zeros or a tag of a kind that it does not
        know: it skips a kilobyte, and loses the block, which is one frame therefore."""
        if not isinstance(self._beneath, Mp3):
            return self._read(round(READ_S * self.samplerate))
        for _ in range(JUNK_READS_MAX):
            with suppress(soundfile.SoundFileError):
                return self._read(MP3_FRAME)
        return np.zeros((0, self.channels), dtype=np.float32)

    def _read(self, frames: int) -> Samples:
        block: Samples = self.read(frames, dtype="float32", always_2d=True)
        return block


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
        """What the file is; its seconds are None where they are not told, as in many an MP3."""
        frames = self._file.frames
        is_unknown = frames > FRAMES_MAX
        return {
            "file": self._path,
            "rate": self._file.samplerate,
            "channels": self._file.channels,
            "seconds": None if is_unknown else round(frames / self._file.samplerate, 3),
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
            block = self._file.read_on()
        except _ERRORS as e:
            raise BadAudioFile(f"{self._path} cannot be read on: {e}") from e
        mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
        mono = np.clip(np.nan_to_num(mono, posinf=0.0, neginf=0.0), -PEAK, PEAK)
        pcm = self._resample.feed(mono, last=len(block) == 0)
        if self._limit is not None:
            pcm = pcm[: max(0, self._limit - self._read_samples)]
        self._read_samples += len(pcm)
        self.cut_short = self._read_samples == self._limit
        self._read_all = len(block) == 0 or self.cut_short
        self._ready.append(pcm)
        self._ready_samples += len(pcm)


def _open_to_read(path: str) -> _ReadOn:
    _try_to_read(path)
    if Path(path).suffix.lower() in (".raw", ".pcm"):
        raise BadAudioFile(
            f"{path} is raw PCM, which does not say its rate or format",
            hint="As 16 bits, mono, 24 kHz it can come through stdin: --in - < FILE.",
        )
    try:
        size = find_size(path)
        file = _ReadOn(path, None if size is None else Unfinished(path, size))
        if file.format == "MP3":
            file = _to_its_end(path, file)
    except _ERRORS as e:
        raise BadAudioFile(f"{path} is no sound file that can be read: {e}") from e
    if file.samplerate not in RATES:
        file.close()
        raise BadAudioFile(f"{path} is damaged: it says {file.samplerate:,} samples a second")
    return file


def _to_its_end(path: str, file: _ReadOn) -> _ReadOn:
    """An MP3; as it was opened, if it is one by its name only, as one that begins in mid-frame."""
    with suppress(soundfile.SoundFileError):
        endless = _ReadOn(path, Mp3(path))
        file.close()
        return endless
    return file


def _try_to_read(path: str) -> None:
    """All that libsndfile would say is "System error"."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise BadAudioFile(f"{path} is no regular file and no pipe")
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise BadAudioFile(f"there is no file {path}") from e
    except OSError as e:
        raise BadAudioFile(f"{path} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise BadAudioFile(f"{path!r} is no path: {e}") from e
