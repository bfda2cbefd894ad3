"""PortAudio started before a talk wants it, and whether what it saw then still holds.

To load the libraries and to look for devices takes longer than to open one, so a spare worker does
it while it waits. It does so on a thread of its own: where a sound server hangs, PortAudio's start
does too, for minutes, and a talk between files needs no PortAudio.

PortAudio's list of devices is that of its start, so the worker compares, cheaply and now and then,
what the system says of its devices with what it said then. A list that no longer holds is made
again. Where that is not safe (PortAudio's JACK part aborts when its server has gone) the worker is
of no use any more and says so. No device is open meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

LOOK_S: Final = 0.5
"""Between two looks, each of half a millisecond at most."""

JACK: Final = "JACK Audio Connection Kit"
SHM: Final = Path("/dev/shm")
CARDS: Final = Path("/proc/asound/cards")
State = tuple[Any, ...]


class Readiness:
    """The sound libraries of one process. One thread calls its methods, and one works."""

    def __init__(self) -> None:
        self._seen: State | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to load and start PortAudio; without PortAudio nothing is started."""
        import moshid.audio.live  # noqa: F401

        self._begin(_load)

    @property
    def starting(self) -> bool:
        """Whether PortAudio is looking for devices just now, and nothing can be asked of it."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def started(self) -> bool:
        """Whether PortAudio is there and has looked for devices, or is about to."""
        return self.starting or self._seen is not None

    def wait(self) -> None:
        """Until PortAudio can be asked: before anything with devices."""
        if self._thread is not None:
            self._thread.join()

    def holds(self) -> bool:
        """Whether PortAudio's list is that of the moment, or will be after a ``wait``; False: this
        process cannot have another one."""
        if self.starting or self._seen is None or sound_state() == self._seen:
            return True
        import sounddevice as sd

        if any(api["name"] == JACK for api in sd.query_hostapis()):
            return False
        self._begin(_start_again)
        return True

    def _begin(self, work: Callable[[], None]) -> None:
        # Looked at before, lest a change meanwhile be missed.
        args = (work, sound_state())
        self._thread = threading.Thread(target=self._run, args=args, name="readiness", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None], seen: State) -> None:
        try:
            work()
        except Exception as e:  # noqa: BLE001
            # A talk between files does without; one with devices will say what is missing.
            log.info("PortAudio does not start: %s", e)
        else:
            self._seen = seen


def _load() -> None:
    """Everything that a talk with devices will need."""
    import sounddevice  # noqa: F401

    from moshid.audio import portaudio

    portaudio.choose_callback()


def _start_again() -> None:
    import sounddevice as sd

    sd._terminate()
    sd._initialize()


def sound_state() -> State:
    """What tells cheaply that devices came or went, or that another one is the default."""
    return _core_audio_state() if sys.platform == "darwin" else _linux_state()


def _linux_state() -> State:
    """ALSA's cards, the sockets of PulseAudio and PipeWire, the JACK server's life."""
    run = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}"))
    server = os.environ.get("JACK_DEFAULT_SERVER", "default")
    jack = SHM / f"jack_sem.{os.getuid()}_{server}_system"
    cards = b""
    with contextlib.suppress(OSError):
        cards = CARDS.read_bytes()
    return (cards, *(_identity(p) for p in (run / "pulse/native", run / "pipewire-0", jack)))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _core_audio_state() -> State:
    """The default devices' numbers and those of all devices (not yet seen on a Mac)."""
    core = ctypes.CDLL("/System/Library/Frameworks/CoreAudio.framework/CoreAudio")
    return tuple(_core_audio_ids(core, selector) for selector in (b"dev#", b"dIn ", b"dOut"))


def _core_audio_ids(core: Any, selector: bytes) -> bytes:
    """AudioObjectGetPropertyData of kAudioObjectSystemObject (1), global scope, main element."""
    address = (ctypes.c_uint32 * 3)(
        int.from_bytes(selector, "big"), int.from_bytes(b"glob", "big"), 0
    )
    size = ctypes.c_uint32(4096)
    data = ctypes.create_string_buffer(4096)
    error = core.AudioObjectGetPropertyData(
        ctypes.c_uint32(1), ctypes.byref(address), 0, None, ctypes.byref(size), data
    )
    return b"" if error else data.raw[: size.value]
