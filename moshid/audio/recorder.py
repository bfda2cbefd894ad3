"""Records a talk: user left, Moshi right, one WAV. Owns the thread that writes and its limits.

The audio thread only mixes and queues; a thread writes. The queue is bounded: when the disk is too
slow for a minute, silence takes the place of what does not fit, and it is counted. When the file
is as long as it may be, or the disk is nearly full, recording stops, and the talk goes on.
"""

from __future__ import annotations

import errno
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from moshid.audio.request import RecordTo
from moshid.audio.ring import Samples
from moshid.audio.stereo import SLACK_SAMPLES, Mixer, Piece, PlayedLine, Stereo
from moshid.audio.wav import FILE_BYTES_MAX, FRAME_BYTES, WavWriter
from moshid.errors import RecordingFailed

log = logging.getLogger(__name__)

QUEUE_PIECES_MAX: Final = 750
"""A minute, a frame a piece."""

SETTLE_S: Final = 1.0
SYNC_S: Final = 5.0
WAIT_S_MAX: Final = 3.0
CLOSE_S_MAX: Final = 2.0
"""Beside that of ``write_behind``; together less than the daemon waits for a talk's end."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Reason = Literal["limit", "disk_full", "failed"]


class Recorder:
    """One recording, from its opening to ``close``."""

    def __init__(
        self,
        to: RecordTo,
        *,
        by_position: bool,
        may_wait: bool,
        first_frame: int = 0,
        make: Callable[[Path], WavWriter] = WavWriter,
        pieces_max: int = QUEUE_PIECES_MAX,
    ) -> None:
        """Make folder and file.

        Args:
            by_position: what is played goes to a file, and stands where that has it: a frame after
                what it answers.
            first_frame: where the talk's own count is when positions begin at 0: not 0 where this
                process takes over from another, whose file is gone on with.
            may_wait: whether the caller may be kept waiting by a slow disk (files, not devices).
            make: opens the file.
            pieces_max: as many wait for the disk.

        Raises:
            RecordingFailed: the folder cannot be made or written, or the disk is full.
        """
        self._to = to
        self._path = Path(to.path)
        self._by_position = by_position
        self._may_wait = may_wait
        self._limit_bytes = min(to.max_bytes, FILE_BYTES_MAX)
        self._wav = _open(self._path, to.min_free_bytes, make)
        self._origin = first_frame * FRAME_SAMPLES
        self._origin_ns = 0
        self._mixer = Mixer(self._wav.samples)
        self._line = PlayedLine()
        self._silent_samples = 0
        """Silence that goes before the next piece."""
        self.lost_frames = 0
        """Frames that the disk was too slow for."""
        self.reason: Reason | None = None
        """Why it stopped before the talk's end."""
        self._told: Reason | None = None
        self._queue: queue.Queue[tuple[int, Stereo] | None] = queue.Queue(pieces_max)
        self._thread = threading.Thread(target=self._write_all, name="recorder", daemon=True)
        self._thread.start()

    def hear(self, pcm: Samples, position: int, origin_ns: int) -> None:
        """What the model hears, float32 [1920], captured at ``position``; position 0 was captured
        at ``origin_ns`` (time.monotonic_ns), as the newest frame has it."""
        self._origin_ns = origin_ns
        self._put(0, pcm, position)
        self._queue_all(self._mixer.take(self._origin + position + FRAME_SAMPLES - SLACK_SAMPLES))

    def say(self, pcm: Samples, position: int, heard_ns: int) -> None:
        """What Moshi says, float32 [1920], in answer to the frame captured at ``position``; it is
        heard from ``heard_ns`` on."""
        if self._by_position:
            wanted = position + FRAME_SAMPLES
        else:
            wanted = round((heard_ns - self._origin_ns) * SAMPLE_RATE / 1e9)
            pcm, wanted = self._line.place(pcm, wanted)
        self._put(1, pcm, wanted)

    def news(self) -> bool:
        """Whether it has stopped since this was asked last."""
        told, self._told = self._told, self.reason
        return told is not self.reason

    def status(self) -> dict[str, Any]:
        """``{folder, name, state, reason, bytes, seconds, lost_frames}``; state on or stopped."""
        return {
            "folder": str(self._path.parent),
            "name": self._path.name,
            "state": "on" if self.reason is None else "stopped",
            "reason": self.reason,
            "bytes": self._wav.size_bytes,
            "seconds": round(self._wav.seconds, 2),
            "lost_frames": self.lost_frames,
        }

    def close(self, patience_s: float = CLOSE_S_MAX) -> dict[str, Any]:
        """Write what is left and finish the file; the last status. A disk that hangs is left, and
        what it has not taken by then counts as lost."""
        self._queue_all(self._mixer.rest())
        with suppress(queue.Full):
            self._queue.put(None, timeout=patience_s)
            self._thread.join(patience_s)
        if self._thread.is_alive():
            log.error("the disk takes no more of the recording %s", self._path.name)
            self.lost_frames += self._queue.qsize()
            self.reason = self.reason or "failed"
        return self.status()

    def _put(self, side: int, pcm: Samples, position: int) -> None:
        if self.reason is None:
            self._queue_all(self._mixer.put(side, pcm, self._origin + position))

    def _queue_all(self, pieces: list[Piece]) -> None:
        for piece in pieces if self.reason is None else ():
            if isinstance(piece, int):
                self._silent_samples += piece
                continue
            filled = (self._silent_samples, piece)
            try:
                self._queue.put(filled, block=self._may_wait, timeout=WAIT_S_MAX)
                self._silent_samples = 0
            except queue.Full:
                self._silent_samples += len(piece)
                self.lost_frames += max(1, len(piece) // FRAME_SAMPLES)

    def _write_all(self) -> None:
        """The thread: write pieces until None comes; after a fault only throw them away."""
        settled_s = synced_s = time.monotonic()
        while (filled := self._queue.get()) is not None:
            if self.reason is not None:
                continue
            try:
                self._write(*filled)
                now_s = time.monotonic()
                if now_s - settled_s >= SETTLE_S:
                    self._check_room()
                    sync = now_s - synced_s >= SYNC_S
                    self._wav.settle(sync=sync)
                    settled_s, synced_s = now_s, now_s if sync else synced_s
            except OSError as e:
                self._stop("failed", e)
        try:
            self._wav.close()
        except OSError as e:
            self._stop("failed", e)

    def _write(self, silent_samples: int, piece: Stereo) -> None:
        room = max(0, (self._limit_bytes - self._wav.size_bytes) // FRAME_BYTES)
        if silent_samples:
            self._wav.skip(min(silent_samples, room))
        if len(sound := piece[: max(0, room - silent_samples)]):
            self._wav.write(np.ascontiguousarray(sound).data)
        if room <= silent_samples + len(piece):
            self._stop("limit")

    def _check_room(self) -> None:
        if shutil.disk_usage(self._path.parent).free < self._to.min_free_bytes:
            self._stop("disk_full")

    def _stop(self, reason: Reason, error: OSError | None = None) -> None:
        if error is not None:
            reason = "disk_full" if error.errno in _FULL else reason
        log.warning(
            "recording stops (%s)%s",
            reason,
            f": {error}" if error else "",
            extra={"path": str(self._path)},
        )
        self.reason = reason


def _open(path: Path, min_free_bytes: int, make: Callable[[Path], WavWriter]) -> WavWriter:
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < min_free_bytes:
            raise RecordingFailed(
                f"the disk of {folder} has {free_bytes:,} bytes free, and recording leaves "
                f"{min_free_bytes:,} to others",
                hint="Make room, give --record another disk, or set talk_record_min_free_bytes.",
            )
        return make(path)
    except (FileExistsError, NotADirectoryError) as e:
        raise RecordingFailed(f"{folder} is no folder to record in: {e.strerror}") from e
    except ValueError as e:
        raise RecordingFailed(str(e)) from e
    except OSError as e:
        raise RecordingFailed(f"recordings cannot be kept in {folder}: {e.strerror}") from e
