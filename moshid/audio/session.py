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
from moshid.audio.conversation import Conversation
from moshid.audio.devices import Heard, Sink, Source
from moshid.audio.frames import FRAME_NS, FRAME_S, SAMPLE_RATE, samples_ns
from moshid.audio.hearing import Hearing
from moshid.audio.link import FrameLink
from moshid.audio.pump import Answer, Captured, Pump
from moshid.audio.request import ControlChanges
from moshid.audio.ring import Samples
from moshid.audio.stats import Holes, Window
from moshid.audio.trace import Trace
from moshid.errors import AudioPermission
from moshid.ipc import IN_FLIGHT_FRAMES_MAX, FrameKind, TokenFrame

STATS_NS: Final = 1_000_000_000
LEVEL_NS: Final = FRAME_NS - 10_000_000
"""Levels go out at most at the frame rate, even when files run faster than time."""

ANSWERS_MAX: Final = IN_FLIGHT_FRAMES_MAX + 1
"""One to each frame in flight, and END. A model that says more breaks the rules, and is left."""

IDLE_S: Final = 0.25
Reason = Literal["input_end", "seconds", "stopped", "device", "model_gone", "paused"]
Notify = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a session is to do."""

    session: str
    epoch: int
    delay_frames: int
    seconds: float | None = None
    first_frame: int = 0


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
        hearing: Hearing | None = None,
        conversation: Conversation | None = None,
    ) -> None:
        """Without codec and link the session is an echo: what is heard is played.

        ``hearing`` stands between the microphone and the model.
        """
        self.plan = plan
        self.source = source
        self.sink = sink
        self.ended: Reason | None = None
        self.link = link
        self.trace = Trace()
        self._codec = codec
        self._hearing = hearing
        self._notify = notify
        self._pump = Pump(plan.epoch, lossless=source.lossless)
        self._pump.captured_frames = plan.first_frame
        self._conversation = conversation or Conversation()
        self._answers: list[TokenFrame] = []
        self._latency, self._encode, self._decode = Window(), Window(), Window()
        self._holes = Holes()
        self._was_silent = False
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
        if self.source.ended or not self._may_take:
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
        if self._hearing is not None and not self._answers:
            self._hearing.learn()
        self._tell_stats()
        self._look_for_end()

    def rejoin(self, epoch: int, link: FrameLink) -> None:
        """A new model process answers from here on."""
        self._leave()
        self._answers.clear()
        self._pump.rejoin(epoch)
        self.link = link

    def set(self, changes: ControlChanges) -> dict[str, Any]:
        """Change mute, push-to-talk, volume or pause; returns all of them as they are now."""
        if self._conversation.set(changes, time.monotonic_ns()):
            self.sink.rest()
        return self._conversation.controls.to_dict()

    def finish(self, *, say_end: bool = True) -> dict[str, Any]:
        """Close everything; returns the last stats.

        Args:
            say_end: whether the model is told that the talk is over; no, when another process may
                take over.
        """
        if say_end and self.link is not None and not self.link.gone:
            frame = self._pump.captured_frames
            self.link.send(TokenFrame(FrameKind.END, self._pump.epoch, frame))
        self._leave()
        self.source.close()
        self.sink.close()
        self._conversation.close()
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """The numbers of the moment, JSON-ready; percentiles over the last minute."""
        stats: dict[str, Any] = {
            "session": self.plan.session,
            "frames": self._pump.captured_frames,
            "seconds": round(self._pump.captured_frames * FRAME_S, 2),
            "answered_frames": self._pump.answered_frames,
            "lagged_frames": self._pump.lagged_frames,
            "paused_frames": self._pump.passed_over_frames,
            "late_frames": self.sink.late_frames,
            "underruns": self.sink.underruns,
            "overruns": self.source.overruns + self._holes.count,
            "missed_ms": round(self._holes.missed_ms),
            "latency_ms": self._latency.percentiles(),
            "stage_ms": {
                "encode": self._encode.percentiles(),
                "step": self._pump.step.percentiles(),
                "decode": self._decode.percentiles(),
            },
            "silent_input": self.source.silent,
            "frames_in_flight": self._pump.frames_in_flight,
            "drift_ppm": self.sink.drift_ppm,
            "frames_waiting": self._pump.frames_waiting,
        }
        hearing = self._hearing.facts() if self._hearing else {"echo_cancel": False, "echo": None}
        return stats | hearing | self._conversation.stats(underruns=self.sink.underruns)

    def _receive(self) -> None:
        if self.link is None:
            return
        self._answers += self.link.receive()
        if self.link.gone or len(self._answers) > ANSWERS_MAX:
            self._leave()

    def _leave(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
            self._pump.leave()

    def _capture(self) -> None:
        while self._may_take:
            if self._limit_frames is not None and self._pump.captured_frames >= self._limit_frames:
                return
            heard = self.source.take(time.monotonic_ns())
            if heard is None:
                return
            self._hear(heard)

    @property
    def _may_take(self) -> bool:
        """Whether a frame may be taken now; a file read at full speed waits, in a pause too."""
        ready = self._pump.has_room and not self._conversation.controls.paused
        return ready or not self.source.lossless

    def _hear(self, heard: Heard) -> None:
        frame = self._pump.captured_frames
        cleaned = self._cleaned(heard)
        pcm = self._conversation.hear(frame, heard, cleaned)
        if pcm is None:
            self._pump.pass_over()
        else:
            self._pump.captured(pcm, heard.position, cleaned.capture_ns)
        if not self.source.lossless:
            self._holes.note(heard.capture_ns, samples_ns(heard.position))
        self._tell_level(frame)
        if (news := self._conversation.news()) is not None:
            self._notify("recording", news)
        self._warn_of_silence()

    def _cleaned(self, heard: Heard) -> Heard:
        """What the model is to hear of it, a little later: without the speaker's sound."""
        if self._hearing is None:
            return heard
        delay_ns = self._hearing.delay_ns
        delay = round(delay_ns * SAMPLE_RATE / 1e9)
        pcm = self._hearing.hear(heard)
        return Heard(pcm, heard.position - delay, heard.capture_ns - delay_ns)

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
        self.trace.add("queue", frame.frame, frame.capture_ns, begun_ns)
        self.trace.add("encode", frame.frame, begun_ns, now_ns)
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
        if answer is not None:
            self.trace.add("step", answer.frame, answer.sent_ns, now_ns)
        if answer is None or not answer.tokens or self._codec is None:
            return
        if self.sink.too_late(answer.position, now_ns):
            return
        pcm = self._codec.decode(answer.tokens)
        decoded_ns = time.monotonic_ns()
        self._decode.add((decoded_ns - now_ns) / 1e6)
        self.trace.add("decode", answer.frame, now_ns, decoded_ns)
        self._play(pcm, answer)

    def _echo(self, frame: Captured) -> None:
        now_ns = time.monotonic_ns()
        self._pump.sent(frame, (), now_ns)
        wire = TokenFrame(FrameKind.MODEL, self._pump.epoch, frame.frame)
        answer = self._pump.answered(wire, now_ns)
        if answer is not None and not self.sink.too_late(answer.position, now_ns):
            self._play(self._conversation.echo(frame.frame, frame.pcm), answer)

    def _play(self, pcm: Samples, answer: Answer) -> None:
        now_ns = time.monotonic_ns()
        said, pcm = self._conversation.say(pcm)
        heard_ns = self.sink.play(pcm, answer.position, now_ns)
        self._conversation.played(said, pcm, answer, heard_ns)
        self.trace.add("play", answer.frame, now_ns, heard_ns)
        delay_ns = (self.plan.delay_frames + 1) * FRAME_NS
        self._latency.add((heard_ns - answer.capture_ns + delay_ns) / 1e6)

    def _tell_level(self, frame: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._level_due_ns:
            return
        self._level_due_ns = now_ns + LEVEL_NS
        level = {
            "session": self.plan.session,
            **self._conversation.level(frame),
            "silent_input": self.source.silent,
            "encode_ms": self._encode.last,
            "step_ms": self._pump.step.last,
            "decode_ms": self._decode.last,
        }
        self._notify("level", level)

    def _warn_of_silence(self) -> None:
        """Once each time that the microphone begins to give nothing but zeros."""
        if self.source.silent and not self._was_silent:
            error = AudioPermission("the microphone gives nothing but zeros")
            self._notify("warning", {"message": error.message, **error.to_data()})
        self._was_silent = self.source.silent

    def _tell_stats(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns >= self._stats_due_ns:
            self._stats_due_ns = now_ns + STATS_NS
            self._notify("stats", self.stats())

    def _look_for_end(self) -> None:
        if self._answers:
            return
        if self._conversation.paused_too_long(time.monotonic_ns()):
            self._end("paused")
        limit = self._limit_frames
        if self.source.ended and self._pump.idle:
            self._end("seconds" if self.source.cut_short else "input_end")
        elif limit is not None and self._pump.captured_frames >= limit and self._pump.idle:
            self._end("seconds")

    def _end(self, reason: Reason) -> None:
        self.ended = self.ended or reason
