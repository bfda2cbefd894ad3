"""One talk, seen from the sound: joins source, codec, link and sink. Owns its order of work.

``step`` does one piece of work and returns; the worker's loop calls it when ``wait_s`` has gone by
or the link is readable. An answer is decoded before the next frame is encoded, since its turn at
the speaker comes first; only when files run at full speed does the model's next frame go first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from moshid.audio.codec import Codec
from moshid.audio.devices import Sink, Source
from moshid.audio.frames import FRAME_NS, FRAME_S, SILENCE_DBFS, level_dbfs
from moshid.audio.link import FrameLink
from moshid.audio.pump import Answer, Captured, Pump
from moshid.audio.ring import Samples
from moshid.audio.stats import Window
from moshid.ipc import FrameKind, TokenFrame

STATS_NS: Final = 1_000_000_000
LEVEL_NS: Final = FRAME_NS - 10_000_000
"""Levels go out at most at the frame rate, even when files run faster than time."""

IDLE_S: Final = 0.25
Reason = Literal["input_end", "seconds", "stopped", "device", "model_gone"]
Notify = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session is to do."""

    session: str
    epoch: int
    delay_frames: int
    seconds: float | None = None


class Session:
    """Runs from its making until ``ended`` says why it is over."""

    def __init__(
        self,
        plan: Plan,
        source: Source,
        sink: Sink,
        notify: Notify,
        *,
        codec: Codec | None,
        link: FrameLink | None,
    ) -> None:
        """Without codec and link the session is an echo: what is heard is played."""
        self.plan = plan
        self.source = source
        self.sink = sink
        self.ended: Reason | None = None
        self.link = link
        self._codec = codec
        self._notify = notify
        self._pump = Pump(plan.epoch, lossless=source.lossless)
        self._answers: list[TokenFrame] = []
        self._latency, self._encode, self._decode = Window(), Window(), Window()
        self._input_dbfs = self._output_dbfs = SILENCE_DBFS
        self._limit_frames = None if plan.seconds is None else round(plan.seconds / FRAME_S)
        now_ns = time.monotonic_ns()
        self._stats_due_ns = now_ns + STATS_NS
        self._level_due_ns = now_ns
        source.start(now_ns)
        sink.start(now_ns)

    def wait_s(self) -> float:
        """How long ``step`` has nothing to do, unless the link becomes readable."""
        if self._answers or self._pump.can_send:
            return 0.0
        if self.source.ended or (self.source.lossless and not self._pump.has_room):
            return IDLE_S
        return min(IDLE_S, self.source.wait_s(time.monotonic_ns()))

    def step(self) -> None:
        """Do what is due: at most one frame encoded and one decoded.

        Raises:
            DeviceFailed, BadAudioFile: from the source or the sink; the session is over.
        """
        self._receive()
        if self.source.lossless:
            self._send_one()
        self._play_one()
        self._capture()
        self._send_one()
        self._tell_stats()
        self._look_for_end()

    def rejoin(self, epoch: int, link: FrameLink) -> None:
        """A new model process answers from here on."""
        self._leave()
        self._answers.clear()
        self._pump.rejoin(epoch)
        self.link = link

    def finish(self) -> dict[str, Any]:
        """Close everything; returns the last stats."""
        if self.link is not None and not self.link.gone:
            frame = self._pump.captured_frames
            self.link.send(TokenFrame(FrameKind.END, self._pump.epoch, frame))
        self._leave()
        self.source.close()
        self.sink.close()
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """The numbers of the moment, JSON-ready; percentiles over the last minute."""
        return {
            "session": self.plan.session,
            "frames": self._pump.captured_frames,
            "seconds": round(self._pump.captured_frames * FRAME_S, 2),
            "lagged_frames": self._pump.lagged_frames,
            "late_frames": self.sink.late_frames,
            "underruns": self.sink.underruns,
            "overruns": self.source.overruns,
            "latency_ms": self._latency.percentiles(),
            "stage_ms": {
                "encode": self._encode.percentiles(),
                "step": self._pump.step.percentiles(),
                "decode": self._decode.percentiles(),
            },
            "input_dbfs": round(self._input_dbfs, 1),
            "output_dbfs": round(self._output_dbfs, 1),
            "silent_input": self.source.silent,
            "frames_in_flight": self._pump.frames_in_flight,
            "echo_cancel": False,
        }

    def _receive(self) -> None:
        if self.link is None:
            return
        self._answers += self.link.receive()
        if self.link.gone:
            self._leave()

    def _leave(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
            self._pump.leave()

    def _capture(self) -> None:
        while not (self.source.lossless and not self._pump.has_room):
            if self._limit_frames is not None and self._pump.captured_frames >= self._limit_frames:
                return
            heard = self.source.take(time.monotonic_ns())
            if heard is None:
                return
            frame = self._pump.captured(heard.pcm, heard.position, heard.capture_ns)
            self._input_dbfs = level_dbfs(heard.pcm)
            self._tell_level(frame.frame)

    def _send_one(self) -> None:
        frame = self._pump.next_to_send()
        if frame is None:
            return
        if self._codec is None:
            self._echo(frame)
            return
        begun_ns = time.monotonic_ns()
        tokens = self._codec.encode(frame.pcm)
        now_ns = time.monotonic_ns()
        self._encode.add((now_ns - begun_ns) / 1e6)
        wire = self._pump.sent(frame, tokens, now_ns)
        if self.link is not None:
            self.link.send(wire)

    def _play_one(self) -> None:
        if not self._answers:
            return
        wire = self._answers.pop(0)
        if wire.kind == FrameKind.END:
            self._end("model_gone")
            return
        now_ns = time.monotonic_ns()
        answer = self._pump.answered(wire, now_ns)
        if answer is None or not answer.tokens or self._codec is None:
            return
        if self.sink.too_late(answer.position, now_ns):
            return
        pcm = self._codec.decode(answer.tokens)
        self._decode.add((time.monotonic_ns() - now_ns) / 1e6)
        self._play(pcm, answer)

    def _echo(self, frame: Captured) -> None:
        now_ns = time.monotonic_ns()
        self._pump.sent(frame, (), now_ns)
        wire = TokenFrame(FrameKind.MODEL, self._pump.epoch, frame.frame)
        answer = self._pump.answered(wire, now_ns)
        if answer is not None and not self.sink.too_late(answer.position, now_ns):
            self._play(frame.pcm, answer)

    def _play(self, pcm: Samples, answer: Answer) -> None:
        heard_ns = self.sink.play(pcm, answer.position, time.monotonic_ns())
        delay_ns = (self.plan.delay_frames + 1) * FRAME_NS
        self._latency.add((heard_ns - answer.capture_ns + delay_ns) / 1e6)
        self._output_dbfs = level_dbfs(pcm)

    def _tell_level(self, frame: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._level_due_ns:
            return
        self._level_due_ns = now_ns + LEVEL_NS
        level = {
            "session": self.plan.session,
            "frame": frame,
            "input_dbfs": round(self._input_dbfs, 1),
            "output_dbfs": round(self._output_dbfs, 1),
            "silent_input": self.source.silent,
            "encode_ms": self._encode.last,
            "step_ms": self._pump.step.last,
            "decode_ms": self._decode.last,
        }
        self._notify("level", level)

    def _tell_stats(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns >= self._stats_due_ns:
            self._stats_due_ns = now_ns + STATS_NS
            self._notify("stats", self.stats())

    def _look_for_end(self) -> None:
        if self._answers:
            return
        limit = self._limit_frames
        if self.source.ended and self._pump.idle:
            self._end("seconds" if self.source.cut_short else "input_end")
        elif limit is not None and self._pump.captured_frames >= limit and self._pump.idle:
            self._end("seconds")

    def _end(self, reason: Reason) -> None:
        self.ended = self.ended or reason
