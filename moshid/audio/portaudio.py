"""One PortAudio stream for both directions, or one. Owns its opening, its positions and its health.

Who copies the sound between the device and the rings is another module's: ``callback_c``, or where
rtmixer is missing ``callback_python``. The main thread is woken by neither: it knows when a frame
will be complete and looks then.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final, Protocol

import sounddevice as sd

from moshid.audio.callback_python import PythonCallback
from moshid.audio.device_list import Device
from moshid.audio.frames import SAMPLE_RATE
from moshid.audio.ring import Ring
from moshid.errors import DeviceFailed

log = logging.getLogger(__name__)

RING_S: Final = 4
CALLBACK_AGE_NS_MAX: Final = 800_000_000
"""A stream whose callback has not come for this long has failed without saying so."""

AWAY_NS: Final = 250_000_000
"""Between two looks: who looks as rarely was stopped, and cannot tell whether the device was."""

START_NS_MAX: Final = 10_000_000_000
STEADY_S: Final = 1.0
"""PulseAudio may pause for two seconds after its first blocks, a Bluetooth headset for longer:
until so much has come, the callback may stay away for ``START_NS_MAX``."""

SHORT_BUFFER_APIS: Final = ("JACK Audio Connection Kit", "Core Audio")
"""Here the host's own block at its lowest latency is steady, and the fastest by 10 ms. Elsewhere
(ALSA, PulseAudio under it) that stutters; blocks of 10 ms with the high latency do not."""

LEARN_LOOKS: Final = 40
BLOCK_S_MAX: Final = 0.025

LATENCY_S_MAX: Final = 10.0
"""What says more does not know: of a JACK program that tells none PortAudio makes 2**32 samples."""

CLOSE_S_MAX: Final = 2.0
"""A sound server that hangs may not hold up the end of a talk."""

RATES: Final = (SAMPLE_RATE, 48_000, 44_100)

_LEFT: Final[list[Any]] = []
"""What PortAudio may still call: memory that has to stay until the process ends."""


class Callback(Protocol):
    """A stream that has not started, and what serves it once it has."""

    stream: Any
    heard: Ring
    to_play: Ring

    def __init__(
        self, input_channels: int | None, output_channels: int | None, options: dict[str, Any]
    ) -> None:
        """Raises sounddevice.PortAudioError when PortAudio refuses to open it."""

    @property
    def heard_total(self) -> int:
        """Samples that came from the device since it started."""

    @property
    def played(self) -> int:
        """Samples that the device has taken, silence included."""

    @property
    def stamp_ns(self) -> int:
        """When the callback came that brought, or took, the last sample that was looked at."""

    @property
    def running(self) -> bool:
        """False when it has given up, because nobody looked."""

    @property
    def xruns(self) -> int:
        """Times that the sound system said that sound was lost, either way."""

    def look(self, now_ns: int, *, anew: bool) -> int:
        """Take what came; → the samples that have gone by. ``anew``: from now on blocks come at
        other times than before."""


class PortAudioStream:
    """One stream for both directions, or for one when the other is a file or another stream.

    Raises:
        DeviceFailed: PortAudio refuses to open or start it.
    """

    def __init__(
        self,
        input_: Device | None,
        output: Device | None,
        *,
        callback: type[Callback] | None = None,
    ) -> None:
        """``callback``: not the one that is best here, but this."""
        self.input = input_
        self.output = output
        self.age_ns_max = CALLBACK_AGE_NS_MAX
        self._closed = self._gone = False
        self._make = callback or choose_callback()
        self._callback: Callback = self._open()
        self._stream = self._callback.stream
        self.rate = float(self._stream.samplerate)
        self._base: tuple[int, int] | None = None
        self._seen = self._played = self._xruns_seen = 0
        self._looks, self._least = 0, RING_S * round(self.rate)
        self._changed_ns = self._looked_ns = time.monotonic_ns()
        try:
            self._stream.start()
        except sd.PortAudioError as e:
            self.close()
            raise DeviceFailed(f"the sound device did not start: {e}") from e

    @property
    def heard(self) -> Ring:
        """What the microphone brought and nobody took yet, mono, at ``rate``."""
        return self._callback.heard

    @property
    def to_play(self) -> Ring:
        """What the speaker will play, mono, at ``rate``."""
        return self._callback.to_play

    @property
    def stamp_ns(self) -> int:
        """When the device brought the newest sample of ``heard`` (time.monotonic_ns)."""
        return self._callback.stamp_ns

    @property
    def latency_s(self) -> float:
        """What PortAudio says that its buffers and the device add, both directions together."""
        latency = self._stream.latency
        told = latency if isinstance(latency, tuple) else (latency,)
        return float(sum(s for s in told if 0.0 <= s <= LATENCY_S_MAX))

    @property
    def block(self) -> int:
        """The least that came between two looks, where the host's blocks are steady. Were that
        more than a block, it would be as much as ``BLOCK_S_MAX``: 0 then."""
        steady = {d.hostapi for d in (self.input, self.output) if d} <= set(SHORT_BUFFER_APIS)
        known = steady and self._least <= BLOCK_S_MAX * self.rate
        return self._least if known else 0

    @property
    def is_new(self) -> bool:
        """Then looks should come often, so that each block is seen by itself: after the start, and
        when sound was lost, since blocks come at other times then."""
        return self._looks < LEARN_LOOKS

    def base(self) -> tuple[int, int]:
        """Samples heard and played, at the stream's rate, when the session's clock started.

        The first call is that moment. Both counters move in the same callback, so they are read
        together: again, if a callback came in between.
        """
        while self._base is None:
            heard, played = self._callback.heard_total, self._callback.played
            self._look(time.monotonic_ns())
            if (heard, played) == (self._callback.heard_total, self._callback.played):
                self._base = heard, played
                self.heard.read_total = self.heard.written
        return self._base

    @property
    def played(self) -> int:
        """Samples that the device had taken, silence included, when it was last looked at."""
        return self._played

    @property
    def xruns(self) -> int:
        """Times that the sound system said that sound was lost, either way."""
        return self._callback.xruns

    def check(self, now_ns: int) -> None:
        """Look at the device; raise DeviceFailed when the stream has ended, or its callback has
        stopped coming."""
        if self._closed:
            raise DeviceFailed("the sound device is closed")
        if not self._stream.active:
            self._gone = True
            raise DeviceFailed("the sound device has gone")
        self._look(now_ns)
        age_ns_max = self.age_ns_max if self._seen > STEADY_S * self.rate else START_NS_MAX
        if now_ns - self._changed_ns > age_ns_max:
            self._gone = True
            raise DeviceFailed(
                "the sound device does not work: its callback has stopped coming", stalled=True
            )
        if not self._callback.running:
            raise DeviceFailed(f"nobody took the device's sound for {RING_S} s")

    def _look(self, now_ns: int) -> None:
        xruns = self.xruns
        stood_still = xruns != self._xruns_seen  # for some blocks
        total = self._callback.look(now_ns, anew=stood_still)
        self._played = self._callback.played
        self._xruns_seen, self._looks = xruns, 0 if stood_still else self._looks + 1
        if total > self._seen:
            self._least = min(self._least, total - self._seen)
        if total != self._seen or now_ns - self._looked_ns > AWAY_NS:
            self._changed_ns = now_ns
        self._seen, self._looked_ns = total, now_ns

    def close(self) -> None:
        """Stop the stream and let the device go.

        A stream that has failed is left to the end of the process, and so is one that does not
        close: PortAudio's JACK part waits for ever for a server that has gone, or hangs.
        """
        if self._closed:
            return
        self._closed = True
        if self._gone or not _closes(self._stream):
            _LEFT.append(self._callback)

    def _open(self) -> Callback:
        apis = {d.hostapi for d in (self.input, self.output) if d is not None}
        if len(apis) > 1:
            raise DeviceFailed(
                f"microphone and speaker are of two sound systems, {' and '.join(sorted(apis))}",
                hint="Choose both of the same HOST API (moshi-client devices).",
            )
        refusals = []
        for rate in self._rates():
            try:
                return self._open_at(rate)
            except sd.PortAudioError as e:
                refusals.append(f"{rate:g} Hz: {e}")
        names = " and ".join(d.name for d in (self.input, self.output) if d is not None)
        raise DeviceFailed(f"{names} cannot be opened ({'; '.join(refusals)})")

    def _rates(self) -> list[float]:
        own = [d.default_rate for d in (self.input, self.output) if d is not None]
        return list(dict.fromkeys([*map(float, RATES), *own]))

    def _open_at(self, rate: float) -> Callback:
        apis = {d.hostapi for d in (self.input, self.output) if d is not None}
        short = apis <= set(SHORT_BUFFER_APIS)
        options: dict[str, Any] = {
            "samplerate": rate,
            "blocksize": 0 if short else round(rate / 100),
            "latency": "low" if short else "high",
        }
        indices = [None if d is None else d.index for d in (self.input, self.output)]
        if None in indices:
            options["device"] = next(index for index in indices if index is not None)
        else:
            options["device"] = tuple(indices)
        channels = [None if d is None else d.channels for d in (self.input, self.output)]
        return self._make(channels[0], channels[1], options)


def _closes(stream: Any) -> bool:
    """Close a stream; False when that takes too long, and goes on by itself."""
    closing = threading.Thread(
        target=stream.close, kwargs={"ignore_errors": True}, name="closing", daemon=True
    )
    closing.start()
    closing.join(CLOSE_S_MAX)
    if closing.is_alive():
        log.warning("the sound server does not let go of its device: it is left to itself")
    return not closing.is_alive()


def choose_callback() -> type[Callback]:
    """C, or Python where rtmixer has not been built for this system."""
    try:
        from moshid.audio.callback_c import CCallback
    except (ImportError, OSError):
        return PythonCallback
    return CCallback
