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
from moshid.audio.flac import Flac, find_flac
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE, silence
from moshid.audio.mp3 import MP3_FRAME, Mp3
from moshid.audio.ogg import Link, find_links
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

    def __init__(self, path: str, beneath: Unfinished | Mp3 | Link | None) -> None:
        """``beneath``: what it is read from, if not by its path; closed with it."""
        self._beneath = beneath
        self._count = 0
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

    @property
    def told_samples(self) -> int:
        """How many it says that it has; more than ``FRAMES_MAX`` where it says nothing."""
        told = self._beneath.told_samples if isinstance(self._beneath, Flac) else 0
        return told or int(self.frames)

    def read_on(self) -> Samples:
        """The next block, float32 [n, channels]; an empty one at the end. Raises what libsndfile
        does; but in an MP3 that is only something else, zeros or a tag of a kind that it does not
        know: it skips a kilobyte, and loses the block, which is one frame therefore."""
        match self._beneath:
            case Mp3():
                for _ in range(JUNK_READS_MAX):
                    with suppress(soundfile.SoundFileError):
                        return self._read(MP3_FRAME)
                return self._nothing()
            case Flac() as flac:
                return self._read_flac(flac)
        return self._read(round(READ_S * self.samplerate))

    def _read_flac(self, flac: Flac) -> Samples:
        """Beyond what its header tells frame by frame: with an error the block is lost."""
        left = flac.told_samples - self._count
        try:
            whole = round(READ_S * self.samplerate)
            return self._read(min(left, whole) if left > 0 else flac.block_samples)
        except soundfile.SoundFileError:
            if flac.is_end(self._count):
                return self._nothing()
            raise

    def _read(self, frames: int) -> Samples:
        block: Samples = self.read(frames, dtype="float32", always_2d=True)
        self._count += len(block)
        return block

    def _nothing(self) -> Samples:
        return np.zeros((0, self.channels), dtype=np.float32)


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
        self._file, self._links = _open_to_read(path)
        self._found = _stat(path)
        self._facts = _facts(path, self._file, is_whole=not self._links)
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
        return self._facts

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
        if len(block) == 0:
            self._see_that_it_was_all()
        mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
        mono = np.clip(np.nan_to_num(mono, posinf=0.0, neginf=0.0), -PEAK, PEAK)
        pcm = self._resample.feed(mono, last=len(block) == 0)
        if self._limit is not None:
            pcm = pcm[: max(0, self._limit - self._read_samples)]
        self._read_samples += len(pcm)
        self.cut_short = self._read_samples == self._limit
        self._read_all = self.cut_short or (len(block) == 0 and not self._open_next())
        self._ready.append(pcm)
        self._ready_samples += len(pcm)

    def _see_that_it_was_all(self) -> None:
        now, then = _stat(self._path), self._found
        if now and then and os.path.samestat(now, then) and now.st_size < then.st_size:
            raise BadAudioFile(f"{self._path} was cut short while it was heard")

    def _open_next(self) -> bool:
        """The next link of an Ogg, with a rate and channels of its own; False without one."""
        if not self._links:
            return False
        self._file.close()
        try:
            self._file = _ReadOn(self._path, Link(self._path, self._links.pop(0)))
        except _ERRORS as e:
            raise BadAudioFile(f"{self._path} cannot be read on: {e}") from e
        _check_rate(self._path, self._file)
        self._resample = Resampler(self._file.samplerate, SAMPLE_RATE, live=False)
        return True


def _stat(path: str) -> os.stat_result | None:
    with suppress(OSError):  # it was deleted, and is read on all the same
        return os.stat(path)
    return None


def _facts(path: str, file: _ReadOn, *, is_whole: bool) -> dict[str, Any]:
    is_known = is_whole and file.told_samples <= FRAMES_MAX
    return {
        "file": path,
        "rate": file.samplerate,
        "channels": file.channels,
        "seconds": round(file.told_samples / file.samplerate, 3) if is_known else None,
    }


def _open_to_read(path: str) -> tuple[_ReadOn, list[range]]:
    """The file, or its first link, and the links that follow."""
    _try_to_read(path)
    if Path(path).suffix.lower() in (".raw", ".pcm"):
        raise BadAudioFile(
            f"{path} is raw PCM, which does not say its rate or format",
            hint="As 16 bits, mono, 24 kHz it can come through stdin: --in - < FILE.",
        )
    try:
        links = find_links(path)
        file = _ReadOn(path, _beneath(path, links))
        if file.format == "MP3":
            file = _to_its_end(path, file)
    except _ERRORS as e:
        raise BadAudioFile(f"{path} is no sound file that can be read: {e}") from e
    _check_rate(path, file)
    return file, links[1:]


def _beneath(path: str, links: list[range]) -> Unfinished | Link | None:
    """What makes libsndfile read to the file's end, if it would not."""
    if len(links) > 1:
        return Link(path, links[0])
    size = find_size(path)
    return find_flac(path) if size is None else Unfinished(path, size)


def _check_rate(path: str, file: _ReadOn) -> None:
    if file.samplerate not in RATES:
        file.close()
        raise BadAudioFile(f"{path} is damaged: it says {file.samplerate:,} samples a second")


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
