"""A FIFO in place of the microphone. Owns when a frame of it is due.

At real time a frame is taken when it is complete, never before its time. A writer that is late
moves the time of all that follows; one that has paused for ``PAUSE_NS`` is taken for silent, until
it goes on. With ``fast`` nothing is invented: the talk waits for the writer.
"""

from __future__ import annotations

import os
import select
from typing import Any, Final

import numpy as np

from moshid.audio.devices import Heard
from moshid.audio.fifo import FRAME_BYTES, POLL_S, open_fifo
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE, from_int16
from moshid.errors import BadAudioFile

PAUSE_NS: Final = 250_000_000
JITTER_NS: Final = 20_000_000
"""As late as this a frame may be without moving the time."""

_HEADERS: Final = (
    *(b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b"FORM", b"caff", b".snd"),
    *(b"ID3\2", b"ID3\3", b"ID3\4", b"#!AM", b"\x1aE\xdf\xa3"),
)
"""How sound files begin, MP3s with a title and WebM too. Samples hardly ever do; but an MP3 without
a title begins as they may."""


class PipeSource:
    """Frames from a FIFO."""

    overruns = 0
    silent = False

    def __init__(self, path: str, *, fast: bool, tail_frames: int, seconds: float | None) -> None:
        """After the sound, or after ``seconds`` of it, come ``tail_frames`` of silence.

        Raises:
            BadAudioFile: it cannot be opened, or belongs to somebody else.
        """
        self._path = path
        self._fd = open_fifo(path, os.O_RDONLY, shorten=not fast)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self.lossless = fast
        self.cut_short = False
        """Whether ``seconds`` ended it, and not the writer."""
        self._left_bytes = None if seconds is None else 2 * max(1, round(seconds * SAMPLE_RATE))
        self._tail_frames = tail_frames
        self._bytes = bytearray()
        self._begun = False
        self._over = False
        self._pausing = False
        self._position = 0
        self._due_ns = 0
        self._missing_ns = 0
        """When a frame was last seen not to be complete."""

    @property
    def facts(self) -> dict[str, Any]:
        """What comes through."""
        return {"file": self._path, "rate": SAMPLE_RATE, "channels": 1, "pipe": True}

    @property
    def ended(self) -> bool:
        """Whether sound and tail have been taken."""
        return self._over and not self._bytes and self._tail_frames == 0

    def start(self, now_ns: int) -> None:
        """The first frame is complete 80 ms from now, at the earliest."""
        self._due_ns = now_ns + FRAME_NS

    def wait_s(self, now_ns: int) -> float:
        """Until the next frame's time, and then until it makes sense to look again."""
        if self.lossless:
            return 0.0 if self._has_frame() else POLL_S
        return max(POLL_S, (self._due_ns - now_ns) / 1e9)

    def take(self, now_ns: int) -> Heard | None:
        """The next frame, when it is complete and its time has come; the last is filled up.

        Raises:
            BadAudioFile: it cannot be read, or what comes is a sound file.
        """
        self._fill(now_ns)
        if self.ended:
            return None
        if self.lossless:
            return self._next(now_ns) if self._has_frame() else None
        if now_ns < self._due_ns:
            return None
        # By the writer's fault. If it was we who looked late, the frames are made up for.
        late_ns = self._missing_ns - self._due_ns
        if self._has_frame():
            self._pausing = False
        elif late_ns < PAUSE_NS and not self._pausing:
            return None
        else:
            late_ns = 0 if self._pausing else late_ns
            self._pausing = True
        if late_ns > JITTER_NS:
            self._due_ns += late_ns
            self._position += round(late_ns * SAMPLE_RATE / 1e9)
        return self._next(now_ns)

    def close(self) -> None:
        """Close our end."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _has_frame(self) -> bool:
        return self._over or len(self._bytes) >= FRAME_BYTES

    def _next(self, now_ns: int) -> Heard:
        """What there is of the next frame, filled up with silence."""
        if self._over and not self._bytes:
            self._tail_frames -= 1
        whole = min(len(self._bytes) // 2 * 2, FRAME_BYTES)
        pcm = from_int16(bytes(self._bytes[:whole]))
        del self._bytes[:whole]  # the other half of a sample may be on its way
        if self._over and len(self._bytes) < 2:
            self._bytes.clear()
        capture_ns = now_ns if self.lossless else self._due_ns
        heard = Heard(np.pad(pcm, (0, FRAME_SAMPLES - len(pcm))), self._position, capture_ns)
        self._position += FRAME_SAMPLES
        self._due_ns += FRAME_NS
        return heard

    def _fill(self, now_ns: int) -> None:
        """Read what is there, no further than the frame after the next."""
        while not self._over and len(self._bytes) < 2 * FRAME_BYTES:
            wanted = 2 * FRAME_BYTES - len(self._bytes)
            if self._left_bytes is not None:
                wanted = min(wanted, self._left_bytes)
            data = self._read(wanted)
            if data is None:
                break
            if self._left_bytes is not None:
                self._left_bytes -= len(data)
                self.cut_short = self._left_bytes == 0
            self._over = not data or self.cut_short
            self._bytes += data
            self._look_at_the_beginning()
        if not self._has_frame():
            self._missing_ns = now_ns

    def _read(self, size: int) -> bytes | None:
        """Up to ``size`` bytes; none at the end, None while nothing is there."""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError as e:
            raise BadAudioFile(f"{self._path} cannot be read on: {e.strerror}") from e
        if data or any(event & select.POLLHUP for _fd, event in self._poll.poll(0)):
            return data
        return None  # Linux says so too before the first writer has come

    def _look_at_the_beginning(self) -> None:
        if self._begun or len(self._bytes) < len(_HEADERS[0]):
            return
        self._begun = True
        if bytes(self._bytes[:4]) in _HEADERS:
            raise BadAudioFile(
                "what comes through the pipe begins like a sound file, and has to be raw PCM",
                hint="Name the file (--in FILE), or convert it: sox FILE -r 24000 -c 1 -b 16 "
                "-e signed -t raw - | moshi-client talk --in - ...",
            )
