"""A FIFO in place of the speaker, and what waits for its reader. Owns the bytes not yet taken.

At real time a reader that stops reading loses answers, once half a second waits for it: they count
as late. Where nothing is answered it gets silence as time goes by, lest all of it come at once, and
keep a player busy for as long. With ``fast`` nothing is lost: the source is held until the reader
goes on.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any, Final

from moshid.audio.devices import Heard, Sink, Source
from moshid.audio.fifo import POLL_S, open_fifo
from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE, to_int16
from moshid.audio.ring import Samples
from moshid.errors import BadAudioFile

WAITING_BYTES_MAX: Final = SAMPLE_RATE
"""Half a second."""

PATIENCE_SAMPLES: Final = SAMPLE_RATE // 2
"""At real time: what has not been answered for so long is silence."""

DRAIN_S_MAX: Final = 1.0


class PipeSink:
    """Answers into a FIFO, on the same time line as a sound file's."""

    underruns = 0
    drift_ppm = None

    def __init__(self, path: str, *, fast: bool) -> None:
        """Raises BadAudioFile when nobody reads, or it belongs to somebody else."""
        self._path = path
        self._fd = open_fifo(path, os.O_WRONLY, shorten=not fast)
        self._fast = fast
        self._waiting = bytearray()
        self._written = 0
        self.late_frames = 0
        """Answers that the reader did not take in time, or that came too late for their place."""

    @property
    def facts(self) -> dict[str, Any]:
        """What goes through."""
        return {"file": self._path, "rate": SAMPLE_RATE, "channels": 1, "pipe": True}

    def start(self, now_ns: int) -> None:
        """The time line starts at position 0 whenever this is."""

    def too_late(self, position: int, now_ns: int) -> bool:  # noqa: ARG002
        """Whether its place is silence already, or the reader is half a second behind; such an
        answer leaves no gap, lest all that follows be later."""
        self.flush()
        passed = position + FRAME_SAMPLES < self._written
        if self._fast or not (passed or self._is_behind):
            return False
        self.late_frames += 1
        self._written = max(self._written, position + 2 * FRAME_SAMPLES)
        return True

    def pass_by(self, position: int) -> None:
        """A frame was captured at ``position``: write the silence that is due by now.

        Raises:
            BadAudioFile: the reader has gone.
        """
        due = position - PATIENCE_SAMPLES - self._written
        if self._fast or due <= 0:
            return
        self.flush()
        if not self._is_behind:
            self._waiting += bytes(2 * due)
            self.flush()
        self._written += due

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:
        """Write the answer at ``position + 1920``, after silence where nothing was answered.

        Raises:
            BadAudioFile: the reader has gone.
        """
        gap = max(0, position + FRAME_SAMPLES - self._written)
        self._waiting += bytes(2 * gap) + to_int16(pcm).tobytes()
        self._written += gap + len(pcm)
        self.flush()
        return now_ns

    def rest(self) -> None:
        """Silence is written where nothing is answered anyway."""

    def pending_s(self) -> float:
        """What the reader has not taken yet; what is in the pipe counts as taken."""
        self.flush()
        return len(self._waiting) / (2 * SAMPLE_RATE)

    def flush(self) -> None:
        """Write what the pipe takes without waiting. Raises BadAudioFile when nobody reads."""
        try:
            while self._waiting and self._fd >= 0:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            return
        except OSError as e:
            self._waiting.clear()
            raise BadAudioFile(
                f"nobody reads {self._path} any more: {e.strerror}",
                hint="The program behind the pipe has ended.",
            ) from e

    @property
    def _is_behind(self) -> bool:
        return len(self._waiting) >= WAITING_BYTES_MAX

    def close(self) -> None:
        """Write the rest, if the reader takes it within a second, and close our end."""
        deadline_s = time.monotonic() + DRAIN_S_MAX
        try:
            while self._fd >= 0 and self.pending_s() and (left_s := _left_s(deadline_s)):
                select.select([], [self._fd], [], left_s)
        except BadAudioFile:
            self._waiting.clear()  # it is over anyway
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class HeldSource:
    """A source in front of a pipe that is read at the reader's speed: it waits when that waits."""

    def __init__(self, source: Source, sink: PipeSink) -> None:
        self._source = source
        self._sink = sink
        self.lossless = source.lossless

    @property
    def facts(self) -> dict[str, Any]:
        """The source's."""
        return self._source.facts

    @property
    def ended(self) -> bool:
        """Whether all has been taken, on the other side too."""
        return self._source.ended and not self._sink.pending_s()

    @property
    def cut_short(self) -> bool:
        """The source's."""
        return self._source.cut_short

    @property
    def overruns(self) -> int:
        """The source's."""
        return self._source.overruns

    @property
    def silent(self) -> bool:
        """The source's."""
        return self._source.silent

    def start(self, now_ns: int) -> None:
        """The session's clock starts."""
        self._source.start(now_ns)

    def wait_s(self, now_ns: int) -> float:
        """The source's, and longer while the reader does not read."""
        return POLL_S if self._must_wait() else self._source.wait_s(now_ns)

    def take(self, now_ns: int) -> Heard | None:
        """The next frame, unless the reader is behind."""
        heard = None if self._must_wait() else self._source.take(now_ns)
        if heard is not None:
            self._sink.pass_by(heard.position)
        return heard

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _must_wait(self) -> bool:
        if self._source.ended:
            return True
        return self.lossless and self._sink.pending_s() > 0


def held_by(source: Source, sink: Sink) -> Source:
    """``source``, made to wait for ``sink`` where that is a pipe."""
    return HeldSource(source, sink) if isinstance(sink, PipeSink) else source


def _left_s(deadline_s: float) -> float:
    return max(0.0, deadline_s - time.monotonic())
