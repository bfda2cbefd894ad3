"""A sound file in place of the speaker. Owns when the file is begun, and its time line.

It is what a listener would have heard, without the jitter of a real speaker: sample ``t`` is heard
at ``t``, so the answer to the frame captured at position ``p`` stands at ``p + 1920``, once that
frame was complete; what was never answered is silence. Input and output laid above each other show
the conversation as it was.

A file that is there already is the user's until there is something to put in its place: it is
opened, so that what forbids that is told at once, and emptied when the first answer comes. A file
that was made for a talk which then does not start is removed.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from moshid.audio.file_formats import FORMATS, Writer, open_writer
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.ring import Samples
from moshid.audio.write_behind import WriteBehind
from moshid.errors import OUT_FILE, BadAudioFile


class FileSink:
    """A sound file of 24 kHz mono, its format by its suffix: see ``FORMATS``."""

    underruns = 0
    late_frames = 0
    drift_ppm = None

    def __init__(self, path: str, *, may_wait: bool = True) -> None:
        """``may_wait``: whether the caller may be kept waiting by a slow disk (not at real time).

        Raises:
            BadAudioFile: it cannot be made, or its extension says no known format.
        """
        self._path = path
        self._may_wait = may_wait
        self._form = _form(path)
        self._fd, self._is_new = _open(path)
        self._writer: Writer | None = None
        self._started = False
        self._written = 0
        found = os.fstat(self._fd)
        self._identity = found.st_dev, found.st_ino
        if not (stat.S_ISREG(found.st_mode) and found.st_size):
            try:
                self._begin()
            except BadAudioFile:
                self._remove_unused()
                raise

    @property
    def facts(self) -> dict[str, Any]:
        """What is written."""
        return {"file": self._path, "rate": SAMPLE_RATE, "channels": 1}

    def start(self, now_ns: int) -> None:  # noqa: ARG002
        """The file's time line starts at position 0 whenever this is; a new file stays now."""
        self._started = True

    def too_late(self, position: int, now_ns: int) -> bool:  # noqa: ARG002
        """Never: a file takes it at any time."""
        return False

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:
        """Write the answer at ``position + 1920``, after silence where nothing was answered.

        Raises:
            BadAudioFile: the disk did not take it.
        """
        self._started = True
        writer = self._writer or self._begin()
        while (gap := position + FRAME_SAMPLES - self._written) > 0:
            # By the second: a microphone may have been away for hours.
            self._write(writer, np.zeros(min(gap, SAMPLE_RATE), dtype=np.float32))
        self._write(writer, pcm)
        return now_ns

    def rest(self) -> None:
        """Silence is written where nothing is answered anyway."""

    def pending_s(self) -> float:
        """Nothing is ever pending."""
        return 0.0

    def close(self) -> None:
        """Finish the file; leave what was there when nothing was answered. Safe to call twice.

        Raises:
            BadAudioFile: the disk did not take its end.
        """
        try:
            if self._writer is not None:
                self._writer.close()
            elif self._fd >= 0:
                os.close(self._fd)
        except OSError as e:
            raise unwritable(self._path, e) from e
        finally:
            self._fd = -1
            self._remove_unused()

    def _begin(self) -> Writer:
        """Empty the file, and write its header."""
        try:
            writer = open_writer(self._fd, self._path, self._form)
        except OSError as e:
            self._fd = -1
            raise unwritable(self._path, e) from e
        self._writer = writer if self._may_wait else WriteBehind(writer)
        return self._writer

    def _write(self, writer: Writer, pcm: Samples) -> None:
        try:
            writer.write(pcm)
        except OSError as e:
            raise unwritable(self._path, e) from e
        self._written += len(pcm)

    def _remove_unused(self) -> None:
        if self._started or not self._is_new:
            return
        self._is_new = False
        with suppress(OSError):
            found = os.stat(self._path)
            if (found.st_dev, found.st_ino) == self._identity:
                os.unlink(self._path)


def _form(path: str) -> tuple[str, str]:
    """libsndfile's format and subtype.

    Raises:
        BadAudioFile: the path's suffix says no known format, or it is a folder.
    """
    if os.path.isdir(path):
        raise BadAudioFile(f"{path} is a folder", hint=OUT_FILE)
    suffix = Path(path).suffix.lower()
    if suffix and suffix not in FORMATS:
        raise BadAudioFile(
            f"no sound format is known by the suffix {suffix}",
            hint=f"Give --out a path that ends with one of {' '.join(FORMATS)}.",
        )
    form = FORMATS[suffix or ".wav"]
    if not soundfile.check_format(*form):
        raise BadAudioFile(f"the libsndfile of this machine does not write {suffix}", hint=OUT_FILE)
    return form


def _open(path: str) -> tuple[int, bool]:
    """A descriptor to write, the file as it is; and whether it was made just now.

    Raises:
        BadAudioFile: it cannot be made, or not be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags | os.O_EXCL, 0o666), True
        except FileExistsError:
            return os.open(path, flags, 0o666), False
    except OSError as e:
        folder, name = os.path.split(path)
        if isinstance(e, FileNotFoundError | NotADirectoryError) and not os.path.isdir(folder):
            missing = f"there is no folder {folder} to write {name} in"
            raise BadAudioFile(missing, hint=OUT_FILE) from e
        raise unwritable(path, e) from e
    except ValueError as e:
        raise BadAudioFile(f"{path!r} is no path: {e}", hint=OUT_FILE) from e


def unwritable(path: str, error: OSError) -> BadAudioFile:
    """What is told of a file that the system does not take."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "Make room, or give --out a file on another disk." if full else OUT_FILE
    if error.errno == errno.ETIMEDOUT:
        hint = "Is it asleep, or on a network that is away? Give --out a file on another disk."
    return BadAudioFile(f"{path} cannot be written: {error.strerror}", hint=hint)
