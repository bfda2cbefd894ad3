"""Raw PCM through FIFOs, in place of microphone and speaker. Owns their opening and the numbers.

What goes through is signed 16 bits, little-endian, mono, 24 kHz. A FIFO has to be our own user's;
the other side opens its end before the talk starts. Nothing here or in the two ends blocks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Final

from moshid.audio.frames import FRAME_SAMPLES
from moshid.errors import BadAudioFile

FRAME_BYTES: Final = 2 * FRAME_SAMPLES
PIPE_BYTES: Final = 4 * FRAME_BYTES
"""At real time: what waits in the kernel is lag, so less than Linux's 64 KiB."""

POLL_S: Final = 0.005


def is_pipe(path: str) -> bool:
    """Whether ``path`` is a FIFO, whoever's it is."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def open_fifo(path: str, mode: int, *, shorten: bool, uid: int | None = None) -> int:
    """A descriptor that never blocks; ``mode`` is O_RDONLY or O_WRONLY.

    Args:
        shorten: make what waits in the kernel little, where the system lets us.
        uid: whose it has to be; ours.

    Raises:
        BadAudioFile: it is no FIFO of ours, or has no reader.
    """
    try:
        fd = os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        if e.errno == errno.ENXIO:
            raise BadAudioFile(
                f"nobody reads {path}", hint="Open it for reading before the talk starts."
            ) from e
        raise BadAudioFile(f"{path} cannot be opened: {e.strerror}") from e
    facts = os.fstat(fd)
    if not stat.S_ISFIFO(facts.st_mode) or facts.st_uid != (os.geteuid() if uid is None else uid):
        os.close(fd)
        raise BadAudioFile(f"{path} is no pipe of our own user", hint="Make it with mkfifo.")
    if shorten and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # more than that is in it already
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return fd
