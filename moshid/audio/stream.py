"""A stream of a sound device as the ends of a talk see it. Owns the Protocol; knows no library."""

from __future__ import annotations

from typing import Any, Protocol

from moshid.audio.ring import Ring
from moshid.errors import DeviceFailed


class StreamDevice(Protocol):
    """What is told of a device."""

    @property
    def hostapi(self) -> str:
        """The sound system it belongs to."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        ...


class DeviceStream(Protocol):
    """One open stream, for one direction or for both. See ``PortAudioStream``."""

    @property
    def rate(self) -> float:
        """Samples a second, as it calls seconds."""
        ...

    @property
    def heard(self) -> Ring:
        """What the device gave; empty for ever when it only plays."""
        ...

    @property
    def to_play(self) -> Ring:
        """What the device will take."""
        ...

    @property
    def stamp_ns(self) -> int:
        """time.monotonic_ns() of the newest callback."""

    @property
    def input(self) -> StreamDevice | None:
        """The microphone, if it hears."""

    @property
    def output(self) -> StreamDevice | None:
        """The speaker, if it plays."""

    @property
    def latency_s(self) -> float:
        """What lies between the device and us, both directions together."""

    @property
    def played(self) -> int:
        """Samples that the device has taken, silence included."""

    @property
    def block(self) -> int:
        """Samples that the device takes at a time, at a steady beat; 0: that is not known."""
        ...

    @property
    def is_new(self) -> bool:
        """Whether it should be looked at often, so that its beat is known."""
        ...

    def base(self) -> tuple[int, int]:
        """Samples heard and played when the session's clock started; the first call is that."""
        ...

    def check(self, now_ns: int) -> None:
        """Raise DeviceFailed when the device has gone, or says nothing any more."""

    def close(self) -> None:
        """Let the device go. Safe to call twice."""


def check(stream: DeviceStream, now_ns: int, direction: str) -> None:
    """``stream.check``, that says which direction is lost: ``input`` or ``output``."""
    try:
        stream.check(now_ns)
    except DeviceFailed as e:
        e.facts.setdefault("direction", direction)
        raise
