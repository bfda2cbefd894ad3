"""The frame that is being captured. Owns what is done of it before it is whole.

Mimi's encoder takes a frame in two steps of 40 ms. If nothing else is to be done when the first
half is there, it is cleaned and encoded while the second is being spoken, so that less is left to
do when the frame ends. What was begun is finished: an encoder cannot forget.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from moshid.audio.codec import Codec
from moshid.audio.conversation import Conversation
from moshid.audio.devices import EarlySource, Heard, Source
from moshid.audio.frames import HALF_SAMPLES, SAMPLE_RATE
from moshid.audio.hearing import Hearing
from moshid.audio.ring import Samples


@dataclass(frozen=True, slots=True)
class Arrived:
    """A whole frame."""

    heard: Heard
    """Without the speaker's sound, with position and time of what is left."""
    pcm: Samples
    """What the model is to hear, float32 [1920]."""
    late: Samples | None
    """The half of it that the codec has not had, if it has begun with the other: [960]."""


class Arriving:
    """``begin`` a frame where there is time for it; ``finish`` each."""

    def __init__(
        self,
        source: Source,
        conversation: Conversation,
        hearing: Hearing | None,
        codec: Codec | None,
    ) -> None:
        """Nothing is begun without a codec, or where ``source`` gives no halves."""
        self._source: Final = source
        self._early = source if codec and isinstance(source, EarlySource) else None
        self._conversation = conversation
        self._hearing = hearing
        self._codec = codec
        self._first: tuple[Samples, Samples] | None = None
        """Of the half that was begun: without echo, and what the model is to hear."""

    def begin(self, now_ns: int) -> int | None:
        """Clean and encode the first half of the next frame, if it is there; returns when the
        encoder was called (time.monotonic_ns), if it was. Raises CodecDied."""
        if self._early is None or self._codec is None or self._first is not None:
            return None
        half = self._early.first_half(now_ns)
        if half is None:
            return None
        cleaned = self._cleaned(half)
        pcm = self._conversation.to_model(cleaned)
        begun_ns = time.monotonic_ns()
        self._codec.begin(pcm)
        self._first = cleaned.pcm, pcm
        return begun_ns

    def finish(self, heard: Heard) -> Arrived:
        """The frame, whole."""
        if self._first is None:
            cleaned = self._cleaned(heard)
            return Arrived(cleaned, self._conversation.to_model(cleaned), None)
        second = Heard(heard.pcm[HALF_SAMPLES:], heard.position + HALF_SAMPLES, heard.capture_ns)
        cleaned = self._cleaned(second)
        late = self._conversation.to_model(cleaned)
        first, first_pcm = self._first
        self._first = None
        whole = Heard(
            np.concatenate((first, cleaned.pcm)),
            cleaned.position - HALF_SAMPLES,
            cleaned.capture_ns,
        )
        return Arrived(whole, np.concatenate((first_pcm, late)), late)

    def wait_s(self, now_ns: int, *, at_leisure: bool) -> float:
        """Until there is something to do: a whole frame, or, ``at_leisure``, a half."""
        if at_leisure and self._early is not None and self._first is None:
            return self._early.half_wait_s(now_ns)
        return self._source.wait_s(now_ns)

    def _cleaned(self, heard: Heard) -> Heard:
        """What is left of it without the speaker's sound: a little older."""
        if self._hearing is None:
            return heard
        delay_ns = self._hearing.delay_ns
        delay = round(delay_ns * SAMPLE_RATE / 1e9)
        pcm = self._hearing.hear(heard)
        return Heard(pcm, heard.position - delay, heard.capture_ns - delay_ns)
