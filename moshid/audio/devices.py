"""Where sound comes from and goes to. Owns the Protocols and the choice among what is asked for.

A source gives frames with the position and the time of their capture; a sink is told which frame
an answer belongs to, and decides when it is heard. Positions count samples at 24 kHz from the
session's start. Nothing here blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from moshid.audio.ring import Samples


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame from a source, or a half."""

    pcm: Samples
    """float32 [1920] at 24 kHz; of a half [960]."""
    position: int
    """Of the first sample; what the device lost before it is counted in."""
    capture_ns: int
    """time.monotonic_ns() when the last sample was captured."""


class Source(Protocol):
    """A microphone, or a file in its place."""

    @property
    def facts(self) -> dict[str, Any]:
        """Name, rate and channels, JSON-ready."""

    @property
    def lossless(self) -> bool:
        """Whether frames wait for us (a file read at full speed) instead of being lost."""

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more."""

    @property
    def cut_short(self) -> bool:
        """Whether it ended because it was to last so long, not because it was over."""

    @property
    def overruns(self) -> int:
        """Times that sound was lost because we did not take it."""

    @property
    def silent(self) -> bool:
        """Whether exact zeros have come for over a second where a microphone would hiss."""

    def start(self, now_ns: int) -> None:
        """The session's clock starts."""

    def take(self, now_ns: int) -> Heard | None:
        """The next frame, if it is complete.

        Raises:
            DeviceFailed: the device has gone, or has stopped working.
            BadAudioFile: the file is damaged.
        """

    def wait_s(self, now_ns: int) -> float:
        """How long it makes no sense to call ``take``."""

    def close(self) -> None:
        """Let go of the device. Safe to call twice."""


@runtime_checkable
class EarlySource(Protocol):
    """A source that gives the first half of a frame before the frame is whole."""

    def first_half(self, now_ns: int) -> Heard | None:
        """Of the frame that is not whole yet, as far as the last ``take`` has seen; it stays there
        for ``take``. None until it is there."""

    def half_wait_s(self, now_ns: int) -> float:
        """How long it makes no sense to call ``take`` and then this."""


class Sink(Protocol):
    """A speaker, or a file in its place."""

    @property
    def facts(self) -> dict[str, Any]:
        """Name, rate and channels, JSON-ready."""

    @property
    def underruns(self) -> int:
        """Times that an answer was not there when its turn came."""

    @property
    def late_frames(self) -> int:
        """Answers dropped because they came too late."""

    @property
    def drift_ppm(self) -> float | None:
        """How much faster than the source's its clock runs; None for one clock, or before it is
        known."""

    def start(self, now_ns: int) -> None:
        """The session's clock starts: position 0 is now."""

    def too_late(self, position: int, now_ns: int) -> bool:
        """Whether the answer to the frame at ``position`` would be dropped; counts it if so."""

    def play(self, pcm: Samples, position: int, now_ns: int) -> int:
        """Play float32 [1920], the answer to the frame captured at ``position``.

        Returns the time.monotonic_ns() at which its first sample will be heard.

        Raises:
            DeviceFailed: the device has gone.
            BadAudioFile: the file cannot be written.
        """

    def rest(self) -> None:
        """A pause is over: the silence before the next answer was meant, and is no underrun."""

    def pending_s(self) -> float:
        """Sound that was given and has not been heard yet."""

    def close(self) -> None:
        """Finish the file, let go of the device. Safe to call twice."""
