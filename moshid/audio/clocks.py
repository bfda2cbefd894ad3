"""The clocks of a microphone and a speaker that are two devices. Owns reading and relating them.

The microphone's clock is the session's: frames, positions and answers are counted on it, and what
is played is resampled to the speaker's clock at the very end. So an echo comes back on the clock
that the played sound was made on, which an echo canceller needs.
"""

from __future__ import annotations

from typing import Final

from moshid.audio.drift import Distance, steering
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.stream import DeviceStream, check

SURPLUS_SAMPLES_MAX: Final = 480
MISSING_SAMPLES_MAX: Final = 120
"""20 ms too many queued, or 5 ms too few, are steered back, unheard; more is a cut or a gap."""


class TwoClocks:
    """Relates the speaker's counting to the microphone's."""

    def __init__(self, hearing: DeviceStream, playing: DeviceStream) -> None:
        self._hearing = hearing
        self._playing = playing
        self._seen_ns = (0, 0)
        self._steer = 0.0
        self.distance = Distance()

    @property
    def drift_ppm(self) -> float | None:
        """How much faster the speaker's clock runs; None before it is known."""
        return round(1e6 * self.distance.drift, 1) if self.distance.known else None

    @property
    def hearing_latency_s(self) -> float:
        """What lies between the microphone and us."""
        return self._hearing.latency_s

    def observe(self, now_ns: int) -> None:
        """Look at both; cheap, and to be called at least once a frame, the microphone's stream
        checked just before.

        Raises:
            DeviceFailed: the speaker has gone, though nothing may be played just now.
        """
        check(self._playing, now_ns, "output")
        heard, heard_ns = _read(self._hearing, playing=False)
        played, played_ns = _read(self._playing, playing=True)
        if heard_ns == self._seen_ns[0] or played_ns == self._seen_ns[1]:
            return
        self._seen_ns = (heard_ns, played_ns)
        heard -= self._hearing.base()[0] * SAMPLE_RATE / self._hearing.rate
        played -= self._playing.base()[1] * SAMPLE_RATE / self._playing.rate
        self.distance.add(heard, heard_ns, played, played_ns)

    def session_position(self, index: float, now_ns: int) -> float:
        """Where sample ``index`` of the speaker's, since its base, lies on the session's line."""
        return index * SAMPLE_RATE / self._playing.rate + self.distance.at(now_ns)

    def steer(self, late: float) -> float:
        """The next frame's change of ratio, to keep both together; ``late`` as for
        ``drift.steering``."""
        self._steer = steering(self._steer, self.distance.drift, late)
        return self._steer


def _read(stream: DeviceStream, *, playing: bool) -> tuple[float, int]:
    """A count, as samples at 24 kHz, and its time; again if a callback came in between."""
    while True:
        stamp_ns = stream.stamp_ns
        count = stream.played if playing else stream.heard.written + stream.heard.overrun
        if stamp_ns == stream.stamp_ns:
            return count * SAMPLE_RATE / stream.rate, stamp_ns
