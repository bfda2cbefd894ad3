"""Sound in and out by rtmixer's callback, which is C. Owns its rings and their positions.

The callback copies between PortAudio's buffers and two of PortAudio's own lock-free rings. It needs
no GIL, so the device is served in time whatever Python does. rtmixer stops playing when its ring
runs empty, so the ring is never empty: silence lies in all of it, ahead of the device, and sound is
written over that silence at the place where it is to be heard. What comes too late finds silence
played already; nothing has to be started again, and the position is exact at all times.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rtmixer

from moshid.audio.playout import faded_out
from moshid.audio.ring import Ring, Samples

RING_S: Final = 4
"""At least so much is kept of what was heard, or can be written ahead."""

CLOCK_WINDOW_NS: Final = 2_000_000_000
LATE_LOOK_NS: Final = 300_000_000
SAMPLE_BYTES: Final = 4
FADE_S: Final = 0.005


class CCallback:
    """A stream that has not started, served by C.

    Raises:
        sounddevice.PortAudioError: PortAudio refuses to open it.
    """

    def __init__(
        self, input_channels: int | None, output_channels: int | None, options: dict[str, Any]
    ) -> None:
        if input_channels is None:
            self.stream = rtmixer.Mixer(channels=output_channels, **options)
        elif output_channels is None:
            self.stream = rtmixer.Recorder(channels=input_channels, **options)
        else:
            channels = (input_channels, output_channels)
            self.stream = rtmixer.MixerAndRecorder(channels=channels, **options)
        rate = float(self.stream.samplerate)
        self.heard: Ring = Ring(1)
        self.to_play: Ring = Ring(1)
        if input_channels is not None:
            self.heard = Heard(self.stream, rate, input_channels)
        if output_channels is not None:
            self.to_play = TimeLine(self.stream, rate, output_channels)
        self._clock = CallbackClock(rate)

    @property
    def heard_total(self) -> int:
        """Samples that came from the device since it started."""
        return self.heard.total if isinstance(self.heard, Heard) else 0

    @property
    def played(self) -> int:
        """Samples that the device has taken, silence included."""
        return self.to_play.played if isinstance(self.to_play, TimeLine) else 0

    @property
    def xruns(self) -> int:
        """Times that the sound system said that sound was lost, either way."""
        actions = [end.action for end in (self.heard, self.to_play) if hasattr(end, "action")]
        stats = [action.stats for action in actions]
        return max(int(s.input_overflows) + int(s.output_underflows) for s in stats)

    @property
    def stamp_ns(self) -> int:
        """When the callback came that brought, or took, the last sample that was looked at."""
        return self._clock.time_ns()

    @property
    def running(self) -> bool:
        """False when nobody looked for so long (``RING_S``) that the callback has given up."""
        ends = [end for end in (self.heard, self.to_play) if isinstance(end, Heard | TimeLine)]
        actions = self.stream.actions
        return all(end.action in actions for end in ends)

    def look(self, now_ns: int, *, anew: bool) -> int:
        """Take what came, lay silence ahead; → the samples that have gone by."""
        if isinstance(self.to_play, TimeLine):
            self.to_play.lay()
        if isinstance(self.heard, Heard):
            self.heard.pull()
            total = self.heard.written + self.heard.overrun
        else:
            total = self.played
        if anew:
            self._clock.restart()
        self._clock.note(now_ns, total)
        return total


class Heard(Ring):
    """What the microphone heard: a ring that is filled from the callback's when it is looked at."""

    def __init__(self, stream: Any, rate: float, channels: int) -> None:
        size = _power_of_two(RING_S * rate)
        super().__init__(size)
        self._channels = channels
        self._c_ring = rtmixer.RingBuffer(SAMPLE_BYTES * channels, size)
        self.action = stream.record_ringbuffer(self._c_ring)

    @property
    def total(self) -> int:
        """Samples that the callback has brought since the start."""
        return self.written + self.overrun + int(self._c_ring.read_available)

    def pull(self) -> None:
        """Take what the callback has brought, all channels as one."""
        n = self._c_ring.read_available
        if n:
            block = np.frombuffer(self._c_ring.read(n), dtype=np.float32)
            self.write(block.reshape(-1, self._channels).mean(axis=1))


class TimeLine(Ring):
    """The speaker's future, with the manners of a ``Ring``: what is written follows what was
    written before, or what is being played, whichever is later. Behind it lies a fade to silence,
    heard only if nothing follows in time."""

    def __init__(self, stream: Any, rate: float, channels: int) -> None:
        size = _power_of_two(RING_S * rate)
        super().__init__(0)
        self._size = size
        self._lines: npt.NDArray[np.float32] = np.zeros((size, channels), dtype=np.float32)
        self._c_ring = rtmixer.RingBuffer(SAMPLE_BYTES * channels, buffer=self._lines)
        self._fade = round(FADE_S * rate)
        self._laid = 0
        self._clean = 0
        self._head = 0
        self.lay()
        self.action = stream.play_ringbuffer(self._c_ring)

    def __len__(self) -> int:
        return max(0, self._head - self.played)

    @property
    def capacity(self) -> int:
        """Samples it can hold."""
        return self._size

    @property
    def played(self) -> int:
        """Samples that the device has taken, silence included."""
        return self._laid - int(self._c_ring.read_available)

    def lay(self) -> int:
        """Make silence again of what was played, and give it to the callback; → ``played``.

        Also brings ``underrun`` and ``read_total`` up to date.
        """
        played = self.played
        _put(self._lines, self._clean, np.zeros(played - self._clean, dtype=np.float32))
        self._clean = played
        free = self._clean + self._size - self._laid
        if free:
            self._c_ring.advance_write_index(free)
            self._laid += free
        self._head = max(self._head, played)
        self.underrun = self._head - self.written
        self.read_total = played - self.underrun
        return played

    def write(self, samples: Samples) -> int:
        """Take as many of ``samples`` (float32 [n]) as fit; returns how many."""
        self.lay()
        n = min(len(samples), self._laid - self._head)
        self.overrun += len(samples) - n
        _put(self._lines, self._head, samples[:n])
        self._head += n
        self.written += n
        fade = faded_out(samples[max(0, n - self._fade) : n][::-1])
        _put(self._lines, self._head, fade[: self._laid - self._head])
        return n


class CallbackClock:
    """When callbacks come, by what the main thread sees: a look finds so many samples, brought some
    time before. The shortest such time within the last seconds is next to none."""

    def __init__(self, rate: float) -> None:
        self._sample_ns = 1e9 / rate
        self._last = 0
        self._window_ends_ns = 0
        self._before: float | None = None
        self._now: float | None = None

    def note(self, now_ns: int, total: int) -> None:
        """At ``now_ns`` there were ``total`` samples."""
        offset = now_ns - total * self._sample_ns
        if self._offset is not None and offset - self._offset > LATE_LOOK_NS:
            self.restart()  # the device stood still, or we did
        if now_ns >= self._window_ends_ns:
            self._before, self._now = self._now, None
            self._window_ends_ns = now_ns + CLOCK_WINDOW_NS
        self._now = offset if self._now is None else min(self._now, offset)
        self._last = total

    def restart(self) -> None:
        """Callbacks come at other times from now on."""
        self._before = self._now = None

    def time_ns(self) -> int:
        """When the callback came that made the last total noted."""
        return round((self._offset or 0.0) + self._last * self._sample_ns)

    @property
    def _offset(self) -> float | None:
        offsets = [o for o in (self._before, self._now) if o is not None]
        return min(offsets) if offsets else None


def _put(lines: npt.NDArray[np.float32], position: int, samples: Samples) -> None:
    """Write float32 [n] to all channels of the ring [size, channels] from ``position`` on."""
    start = position % len(lines)
    first = min(len(samples), len(lines) - start)
    lines[start : start + first] = samples[:first, None]
    lines[: len(samples) - first] = samples[first:, None]


def _power_of_two(samples: float) -> int:
    return 1 << (int(samples) - 1).bit_length()
