"""The frame loop's book-keeping. Owns credit, queues and what is skipped; values in, values out.

::

    captured ──▶ waiting (≤ 2) ──▶ in flight (≤ 2, the credit) ──▶ answered
                     │ full: the oldest is skipped, and counted as lagged

No frame gets lost in silence: captured = answered + lagged + passed over + waiting + in flight,
at any time. Passed over are those of a pause.

When the model stalls, two frames are with it and two wait; what is captured meanwhile pushes the
oldest out, so that afterwards at most four frames have to be caught up and the delay is normal
again. A lossless pump (files, as fast as the machine can) never skips: its source waits instead.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from moshid.audio.ring import Samples
from moshid.audio.stats import Window
from moshid.ipc import IN_FLIGHT_FRAMES_MAX, FrameKind, TokenFrame

WAITING_FRAMES_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame of the microphone's side."""

    frame: int
    """Index since the session began; skipped frames leave holes in what the model sees."""
    position: int
    """Samples at 24 kHz from the session's start to the frame's first one, losses included."""
    capture_ns: int
    """time.monotonic_ns() when the frame's last sample was captured."""
    pcm: Samples
    tokens: tuple[int, ...] | None = None
    """What it was encoded as, if it has been: whoever begins with a frame has to finish it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said to a frame, and when that frame was captured."""

    frame: int
    position: int
    capture_ns: int
    tokens: tuple[int, ...]
    text: int
    sent_ns: int


class Pump:
    """Frames captured, sent, answered: at most ``waiting_max`` and ``in_flight_max`` of them."""

    def __init__(
        self,
        epoch: int,
        *,
        lossless: bool = False,
        waiting_max: int = WAITING_FRAMES_MAX,
        in_flight_max: int = IN_FLIGHT_FRAMES_MAX,
    ) -> None:
        self.epoch = epoch
        self.joined = True
        self.captured_frames = 0
        self.answered_frames = 0
        """Frames whose answer came; played or, when it came too late, dropped by the sink."""
        self.passed_over_frames = 0
        """Frames of a pause."""
        self.lagged_frames = 0
        """Frames the model never heard, because it, or the link, was too slow."""
        self.stale_answers = 0
        """Answers of an older epoch, or to nothing we sent."""
        self.step = Window()
        """Milliseconds from a frame's sending to its answer."""
        self._lossless = lossless
        self._waiting_max = waiting_max
        self._in_flight_max = in_flight_max
        self._waiting: deque[Captured] = deque()
        self._in_flight: OrderedDict[int, tuple[Captured, int]] = OrderedDict()

    @property
    def frames_in_flight(self) -> int:
        """Frames that the model has and has not answered."""
        return len(self._in_flight)

    @property
    def frames_waiting(self) -> int:
        """Frames captured that were neither sent nor skipped yet."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._waiting and not self._in_flight

    @property
    def has_room(self) -> bool:
        """Whether a frame captured now would push none out."""
        return len(self._waiting) < self._waiting_max

    def captured(
        self,
        pcm: Samples,
        position: int,
        capture_ns: int,
        tokens: tuple[int, ...] | None = None,
    ) -> Captured:
        """A frame was captured: float32 [1920]. Skips the oldest waiting one when full."""
        if not self.has_room:
            if self._lossless:
                raise OverflowError("a lossless pump was fed while it had no room")
            self._waiting.popleft()
            self.lagged_frames += 1
        frame = Captured(self.captured_frames, position, capture_ns, pcm, tokens)
        self.captured_frames += 1
        self._waiting.append(frame)
        return frame

    def pass_over(self) -> None:
        """A frame was captured that the model is not to hear: it leaves a hole, and no lag."""
        self.captured_frames += 1
        self.passed_over_frames += 1

    @property
    def can_send(self) -> bool:
        """Whether ``next_to_send`` would give a frame."""
        return self.joined and bool(self._waiting) and len(self._in_flight) < self._in_flight_max

    def next_to_send(self) -> Captured | None:
        """The frame to encode and send now, if there is one and credit for it."""
        return self._waiting.popleft() if self.can_send else None

    def sent(self, frame: Captured, tokens: tuple[int, ...], now_ns: int) -> TokenFrame:
        """Count ``frame`` as in flight; returns it as it goes over the wire."""
        self._in_flight[frame.frame] = (frame, now_ns)
        return TokenFrame(FrameKind.USER, self.epoch, frame.frame, frame.capture_ns, tokens=tokens)

    def answered(self, answer: TokenFrame, now_ns: int) -> Answer | None:
        """Match a MODEL frame with what was sent; None when it belongs to no frame of ours.

        Frames in flight before the one answered were swallowed by the model: they count as lagged.
        """
        if answer.epoch != self.epoch or answer.frame not in self._in_flight:
            self.stale_answers += 1
            return None
        while True:
            index, (frame, sent_ns) = self._in_flight.popitem(last=False)
            if index == answer.frame:
                break
            self.lagged_frames += 1
        self.answered_frames += 1
        self.step.add((now_ns - sent_ns) / 1e6)
        return Answer(index, frame.position, frame.capture_ns, answer.tokens, answer.text, sent_ns)

    def leave(self) -> None:
        """The model is gone: what it had is lost, and nothing is sent until ``rejoin``."""
        self.lagged_frames += len(self._in_flight)
        self._in_flight.clear()
        self.joined = False

    def rejoin(self, epoch: int) -> None:
        """A new model answers from here on."""
        self.leave()
        self.epoch = epoch
        self.joined = True
