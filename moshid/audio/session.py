"""One talk, seen from the sound: joins source, codec, link and sink. Owns its order of work.

``step`` does one piece of work and returns; the worker's loop calls it when ``wait_s`` has gone by
or the link is readable. An answer is decoded before the next frame is encoded, since its turn at
the speaker comes first; only when files run at full speed does the model's next frame go first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Literal

from moshid.audio.arriving import Arriving
from moshid.audio.codec import Codec, Tokens
from moshid.audio.conversation import Conversation
from moshid.audio.devices import Heard, Sink, Source
from moshid.audio.frames import FRAME_NS, FRAME_S, samples_ns
from moshid.audio.hearing import Hearing
from moshid.audio.link import FrameLink
from moshid.audio.pump import Answer, Captured, Pump
from moshid.audio.report import Notify, Parts, Report
from moshid.audio.request import ControlChanges
from moshid.audio.ring import Samples
from moshid.errors import BadAudioFile
from moshid.ipc import IN_FLIGHT_FRAMES_MAX, FrameKind, TokenFrame

ANSWERS_MAX: Final = IN_FLIGHT_FRAMES_MAX + 1
"""One to each frame in flight, and END. A model that says more breaks the rules, and is left."""

IDLE_S: Final = 0.25
Reason = Literal["input_end", "seconds", "stopped", "device", "model_gone", "paused"]


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
        self.unfinished: BadAudioFile | None = None
        """Why the end of the output could not be written."""
        self.link = link
        self._codec = codec
        self._hearing = hearing
        self._pump = Pump(plan.epoch, lossless=source.lossless)
        self._pump.captured_frames = plan.first_frame
        self._conversation = conversation or Conversation()
        self._arriving = Arriving(source, self._conversation, hearing, codec)
        self._answers: list[TokenFrame] = []
        parts = Parts(source, sink, self._pump, self._conversation, hearing)
        self.report = Report(plan.session, notify, parts)
        self._limit_frames = None if plan.seconds is None else round(plan.seconds / FRAME_S)
        now_ns = time.monotonic_ns()
        source.start(now_ns)
        sink.start(now_ns)

    def wait_s(self) -> float:
        """How long ``step`` has nothing to do, unless the link becomes readable."""
        if self._answers or self._pump.can_send:
            return 0.0
        if self.source.ended or not self._may_take:
            return IDLE_S
        now_ns = time.monotonic_ns()
        return min(IDLE_S, self._arriving.wait_s(now_ns, at_leisure=self._is_at_leisure))

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
        if self._hearing is not None and self._pump.idle and not self._answers:
            self._hearing.learn()  # beside a step it would take the step's time
        self.report.tell_stats()
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
        """Close everything; returns the last stats. See ``unfinished``.

        Args:
            say_end: whether the model is told that the talk is over; no, when another process may
                take over.
        """
        if say_end and self.link is not None and not self.link.gone:
            frame = self._pump.captured_frames
            self.link.send(TokenFrame(FrameKind.END, self._pump.epoch, frame))
        self._leave()
        self.source.close()
        try:
            self.sink.close()
        except BadAudioFile as e:
            self.unfinished = e
        self._conversation.close()
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """The numbers of the moment, JSON-ready; percentiles over the last minute."""
        return self.report.stats()

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
            now_ns = time.monotonic_ns()
            heard = self.source.take(now_ns)
            if heard is None:
                self._begin_next(now_ns)
                return
            self._hear(heard)

    def _begin_next(self, now_ns: int) -> None:
        """What can be done of the next frame before it is whole, at leisure."""
        begun_ns = self._arriving.begin(now_ns) if self._is_at_leisure else None
        if begun_ns is not None:
            frame = self._pump.captured_frames
            self.report.trace.add("ahead", frame, begun_ns, time.monotonic_ns())

    @property
    def _is_at_leisure(self) -> bool:
        """Whether no answer is awaited, which would have to be decoded first, and what is begun
        will be wanted."""
        wanted = self._pump.joined and not self._conversation.controls.paused
        return wanted and self._pump.idle and not self._answers

    @property
    def _may_take(self) -> bool:
        """Whether a frame may be taken now; a file read at full speed waits, in a pause too."""
        ready = self._pump.has_room and not self._conversation.controls.paused
        return ready or not self.source.lossless

    def _hear(self, heard: Heard) -> None:
        frame = self._pump.captured_frames
        arrived = self._arriving.finish(heard)
        at_ns = arrived.heard.capture_ns
        tokens = None if arrived.late is None else self._encode(arrived.late, frame, at_ns)
        if self._conversation.reaches_model():
            self._pump.captured(arrived.pcm, heard.position, at_ns, tokens)
        else:
            self._pump.pass_over()
        if self._codec is not None and not self.source.lossless:
            self._send_one()  # before all that no answer waits for; an echo answers at once
        self._conversation.hear(frame, heard, arrived.heard, arrived.pcm)
        if not self.source.lossless:
            self.report.holes.note(heard.capture_ns, samples_ns(heard.position))
        self.report.frame(frame)

    def _send_one(self) -> None:
        frame = self._pump.next_to_send()
        if frame is None:
            return
        if self._codec is None:
            self._echo(frame)
            return
        tokens = frame.tokens or self._encode(frame.pcm, frame.frame, frame.capture_ns)
        wire = self._pump.sent(frame, tokens, time.monotonic_ns())
        if self.link is not None:
            self.link.send(wire)

    def _encode(self, pcm: Samples, frame: int, capture_ns: int) -> Tokens:
        assert self._codec is not None
        begun_ns = time.monotonic_ns()
        tokens = self._codec.encode(pcm)
        now_ns = time.monotonic_ns()
        self.report.encode.add((now_ns - begun_ns) / 1e6)
        self.report.trace.add("queue", frame, capture_ns, begun_ns)
        self.report.trace.add("encode", frame, begun_ns, now_ns)
        return tokens

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
            self.report.trace.add("step", answer.frame, answer.sent_ns, now_ns)
        if answer is None or not answer.tokens or self._codec is None:
            return
        if self.sink.too_late(answer.position, now_ns):
            return
        pcm = self._codec.decode(answer.tokens)
        decoded_ns = time.monotonic_ns()
        self.report.decode.add((decoded_ns - now_ns) / 1e6)
        self.report.trace.add("decode", answer.frame, now_ns, decoded_ns)
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
        self.report.trace.add("play", answer.frame, now_ns, heard_ns)
        delay_ns = (self.plan.delay_frames + 1) * FRAME_NS
        self.report.latency.add((heard_ns - answer.capture_ns + delay_ns) / 1e6)

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
