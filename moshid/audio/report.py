"""What a session tells of itself, and how often: levels, numbers, warnings, where the time went.

Owns the windows and the trace that stages are noted in; asks the session's parts for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from moshid.audio.conversation import Conversation
from moshid.audio.devices import Sink, Source
from moshid.audio.frames import FRAME_NS, FRAME_S
from moshid.audio.hearing import Hearing
from moshid.audio.pump import Pump
from moshid.audio.stats import Holes, Window
from moshid.audio.trace import Trace
from moshid.errors import AudioPermission

STATS_NS: Final = 1_000_000_000
LEVEL_NS: Final = FRAME_NS - 10_000_000
"""Levels go out at most at the frame rate, even when files run faster than time."""

Notify = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a session is made of, as far as there is something to tell of it."""

    source: Source
    sink: Sink
    pump: Pump
    conversation: Conversation
    hearing: Hearing | None


class Report:
    """Of one session."""

    def __init__(self, session: str, notify: Notify, parts: Parts) -> None:
        self.trace = Trace()
        self.latency, self.encode, self.decode = Window(), Window(), Window()
        self.holes = Holes()
        self._session = session
        self._notify = notify
        self._parts = parts
        self._was_silent = False
        now_ns = time.monotonic_ns()
        self._stats_due_ns = now_ns + STATS_NS
        self._level_due_ns = now_ns

    def stats(self) -> dict[str, Any]:
        """The numbers of the moment, JSON-ready; percentiles over the last minute."""
        source, sink, pump = self._parts.source, self._parts.sink, self._parts.pump
        hearing = self._parts.hearing
        stats: dict[str, Any] = {
            "session": self._session,
            "frames": pump.captured_frames,
            "seconds": round(pump.captured_frames * FRAME_S, 2),
            "answered_frames": pump.answered_frames,
            "lagged_frames": pump.lagged_frames,
            "paused_frames": pump.passed_over_frames,
            "late_frames": sink.late_frames,
            "underruns": sink.underruns,
            "overruns": source.overruns + self.holes.count,
            "missed_ms": round(self.holes.missed_ms),
            "latency_ms": self.latency.percentiles(),
            "stage_ms": {
                "encode": self.encode.percentiles(),
                "step": pump.step.percentiles(),
                "decode": self.decode.percentiles(),
            },
            "silent_input": source.silent,
            "frames_in_flight": pump.frames_in_flight,
            "drift_ppm": sink.drift_ppm,
            "frames_waiting": pump.frames_waiting,
        }
        heard = hearing.facts() if hearing else {"echo_cancel": False, "echo": None}
        return stats | heard | self._parts.conversation.stats(underruns=sink.underruns)

    def end(self, reason: str | None, stats: dict[str, Any]) -> dict[str, Any]:
        """What is told when it is over; ``stats`` are the last."""
        return {
            "session": self._session,
            "reason": reason,
            "stats": stats,
            "trace": self.trace.spans(),
        }

    def frame(self, number: int) -> None:
        """A frame was captured: its level, if one is due, and what is new with it."""
        self._tell_level(number)
        if (news := self._parts.conversation.news()) is not None:
            self._notify("recording", news)
        self._warn_of_silence()

    def tell_stats(self) -> None:
        """Once a second."""
        now_ns = time.monotonic_ns()
        if now_ns >= self._stats_due_ns:
            self._stats_due_ns = now_ns + STATS_NS
            self._notify("stats", self.stats())

    def _tell_level(self, frame: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._level_due_ns:
            return
        self._level_due_ns = now_ns + LEVEL_NS
        level = {
            "session": self._session,
            **self._parts.conversation.level(frame),
            "silent_input": self._parts.source.silent,
            "encode_ms": self.encode.last,
            "step_ms": self._parts.pump.step.last,
            "decode_ms": self.decode.last,
        }
        self._notify("level", level)

    def _warn_of_silence(self) -> None:
        """Once each time that the microphone begins to give nothing but zeros."""
        silent = self._parts.source.silent
        if silent and not self._was_silent:
            error = AudioPermission("the microphone gives nothing but zeros")
            self._notify("warning", {"message": error.message, **error.to_data()})
        self._was_silent = silent
