"""One talk as the daemon's side of sound knows it. Owns what outlives the process that carries it.

When a device goes, the audio process that had it open goes too, and another one takes over: the
frame socket (of which the daemon keeps a copy for that), the count of frames and the counters.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeGuard

from moshid.audio.controls import Controls
from moshid.audio.request import CodecSpec
from moshid.errors import DeviceFailed, MoshidError, from_data
from moshid.supervisor import WorkerProcess

log = logging.getLogger(__name__)

FRAME_S: Final = 0.08
COUNTERS: Final = frozenset(
    (
        "lagged_frames",
        "late_frames",
        "underruns",
        "overruns",
        "answered_frames",
        "missed_ms",
        "paused_frames",
    )
)
PATIENCE_S: Final = 0.8
STALLS_DOUBLED: Final = 3
STALL_MEMORY_S: Final = 60.0
"""Each device that stood still so soon after another doubles the patience, up to 6.4 s: on a
machine that is overloaded, to open it again and again would only add to the load."""

EventHandler = Callable[[str, dict[str, Any]], None]
Direction = Literal["input", "output"]
DIRECTIONS: Final[tuple[Direction, Direction]] = ("input", "output")


@dataclass(slots=True)
class Talking:
    """The running session: its worker, and who wants to hear of it."""

    session: str
    params: dict[str, Any]
    codec: CodecSpec | None
    on_event: EventHandler
    worker: WorkerProcess | None = None
    sock: socket.socket | None = None
    devices: dict[str, Any] = field(default_factory=dict)
    over: bool = False
    away: bool = False
    """Whether its devices are not open, and are waited for."""
    lost: set[str] = field(default_factory=set)
    """Which of them, as far as it was told."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Something happened that its keeper should look at."""
    stats: dict[str, Any] = field(default_factory=dict)
    began_s: float = 0.0
    """time.monotonic() when the present worker began."""
    deaths: int = 0
    failed: MoshidError | None = None
    """Why the present worker's session is over."""
    told: int = 0
    """Events that came from its processes."""
    controls: Controls = field(default_factory=Controls)
    zeros_known: bool = False
    stalls: int = 0
    _stalled_s: float = float("-inf")
    frames: int = 0
    _frames_s: float = 0.0
    _past: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))

    @property
    def can_move(self) -> bool:
        """Whether another process could go on: with a file at either end it could not."""
        return self.params.get("in_file") is None and self.params.get("out_file") is None

    @property
    def writes_files(self) -> bool:
        """Whether its process makes any."""
        return any(self.params.get(name) is not None for name in ("out_file", "record"))

    @property
    def has_failed(self) -> bool:
        """Whether the present worker's session is over already."""
        return self.failed is not None

    @property
    def is_open(self) -> bool:
        """Whether a process carries it now."""
        return self.worker is not None and not self.away

    def can_wait_for(self, error: MoshidError | None) -> TypeGuard[DeviceFailed]:
        """Whether what failed is a device that may come back, in a talk that had begun."""
        return self.can_move and bool(self.devices) and isinstance(error, DeviceFailed)

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Hand on an event; a faulty listener may not take the service down."""
        try:
            self.on_event(name, data)
        except Exception:
            log.exception("audio event %s was not handled", name)

    def hear(self, name: str, data: dict[str, Any]) -> DeviceFailed | None:
        """Take an event of its process, and hand it on; or the loss of a device that can be waited
        for, which is not."""
        self.told += 1
        match name:
            case "state" if data["state"] == "failed":
                error = dict(data["error"])
                self.failed = from_data(error.pop("message"), error)
                if not (self.away or self.can_wait_for(self.failed)):
                    self.tell("failed", {"error": self.failed})
            case "state":
                pass
            case "ended":
                self.count(data["stats"]["frames"])
                data = data | {"stats": self.note(data["stats"])}
                if self.away:
                    pass  # its keeper sees it
                elif self.can_wait_for(failed := self.failed):
                    return failed
                else:
                    self.tell(name, data)
            case "stats":
                self.tell(name, self.note(data))
            case _:
                if name == "level":
                    self.count(data["frame"] + 1)
                self.tell(name, data)
        return None

    def count(self, frames: int) -> None:
        """So many frames have been captured by now."""
        self.frames, self._frames_s = frames, time.monotonic()

    def blame(self, error: MoshidError) -> None:
        """Remember what of this loss matters for the next opening."""
        self.zeros_known |= bool(error.facts.get("silent"))
        if error.facts.get("stalled"):
            now_s = time.monotonic()
            self.stalls = self.stalls + 1 if now_s - self._stalled_s < STALL_MEMORY_S else 0
            self._stalled_s = now_s

    def note(self, stats: dict[str, Any]) -> dict[str, Any]:
        """The worker's stats, as those of the whole talk."""
        counted = COUNTERS & stats.keys()
        self.stats = stats | {name: self._past[name] + stats[name] for name in counted}
        return self.stats

    def replace_sock(self, sock: socket.socket | None) -> None:
        """Keep this copy of the frame socket from now on."""
        if self.sock is not None:
            self.sock.close()
        self.sock = sock

    def wanted(self) -> dict[str, Any]:
        """The devices to look for: the default where it was asked for, else those it began with,
        by name, since an index may mean another one by now, and by all of it, since what is a part
        of one name may be the end of another."""
        return {d: self._wanted(d) for d in DIRECTIONS} | {"exact": True}

    def resume(self) -> dict[str, Any]:
        """The parameters for the process that takes over. What was not heard counts as lagged."""
        missed = round((time.monotonic() - self._frames_s) / FRAME_S)
        first_frame = self.frames + missed
        resumed = self.params | self.wanted()
        patience_s = PATIENCE_S * 2 ** min(self.stalls, STALLS_DOUBLED)
        return resumed | {
            "first_frame": first_frame,
            "zeros_known": self.zeros_known,
            "patience_s": patience_s,
            "controls": self.controls.to_changes(),
        }

    def resumed(self, first_frame: int) -> None:
        """A process has taken over from ``first_frame`` on."""
        self.failed = None
        for name in COUNTERS:
            self._past[name] = self.stats.get(name, 0)
        self._past["lagged_frames"] += first_frame - self.frames
        self.count(first_frame)

    def is_out_of_time(self) -> bool:
        """Whether the time it was to last has gone by while its devices were away."""
        seconds = self.params.get("seconds")
        return seconds is not None and self.resume()["first_frame"] * FRAME_S >= seconds

    def _wanted(self, direction: Direction) -> str | None:
        if self.params.get(direction) is None:
            return None
        device = self.devices[direction]
        return f"{device['name']}, {device['hostapi']}"
