"""When a codec process is replaced, and by what. Owns the one that works and its spare.

An object of rustymimi lasts for so many frames (``codec_rusty``). Well before its end a spare is
begun, which takes in what the one at work is asked, in both directions, a frame when that has been
answered. So it is never in a hurry, and has heard enough when it takes the place, between two
frames.

::

    frame 0                      begin                                      frames_max
      ├─ alone ────────────────────┼─ the spare hears along ─┤─ if it is late ──┤
                                   └ begun                   └ swapped: it has heard `primed` frames
                                                               and is level; at the end at last
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np

from moshid.audio.codec import Tokens
from moshid.audio.ring import Samples
from moshid.errors import BadCheckpoint, CodecDied, MoshidError

log = logging.getLogger(__name__)

PRIMED_FRAMES: Final = 250
"""20 s. Mimi's attention looks back 10 s in each of eight layers, one on top of the other. After
10 s the sound still differs by -37 to -97 dB from an unswapped codec's, after 20 s by -60 to -120.
"""

RETRY_FRAMES: Final = 25
"""After a spare has failed, 2 s to the next one."""

T = TypeVar("T")


class Hosted(Protocol):
    """One object, which lasts for so many frames. See ``CodecProcess``."""

    @property
    def encoded(self) -> int:
        """Frames that it has encoded, or been given to take in."""

    @property
    def decoded(self) -> int:
        """The same of the other direction."""

    def begin(self, pcm: Samples) -> None:
        """Work on float32 [960], a frame's first half. Never blocks. Raises CodecDied."""

    def encode(self, pcm: Samples) -> Tokens:
        """Answer, after what it was given to take in. Raises CodecDied."""

    def decode(self, tokens: Tokens) -> Samples:
        """Answer, after what it was given to take in. Raises CodecDied."""

    def take_sound(self, pcm: Samples) -> None:
        """Have it take in a frame that another one encodes. Never blocks."""

    def take_tokens(self, tokens: Tokens) -> None:
        """Have it take in a frame that another one decodes. Never blocks."""

    def hurry(self) -> None:
        """Have it be served first by the system, from now on. Never blocks."""

    def is_level(self) -> bool:
        """Whether it would answer at once. Raises BadCheckpoint, CodecDied."""

    def catch_up(self) -> None:
        """Wait until it would. Raises BadCheckpoint, CodecDied."""

    def close(self) -> None:
        """End it, without waiting. May be called again."""

    def has_ended(self) -> bool:
        """Whether it has, after ``close``."""

    def wait(self) -> None:
        """Wait until it has, after ``close``."""


@dataclass(frozen=True, slots=True)
class Life:
    """For how many frames an object lasts, at most, and when and how it is replaced before."""

    frames_max: int
    begin: int
    """Frames of the one at work after which its spare is begun."""
    primed: int = PRIMED_FRAMES


class Spares:
    """The codec at work; its successor is begun, led along and put in its place by itself."""

    def __init__(self, make: Callable[[], Hosted], life: Life) -> None:
        """``make`` starts a process. Raises BadCheckpoint, CodecDied."""
        self._make = make
        self._life = life
        self._spare: Hosted | None = None
        self._begin_at = life.begin
        self._retired: list[Hosted] = []
        self._is_urgent = False
        self._begun: Samples | None = None
        self.swaps = 0
        """Times that a spare took the place."""
        self.deaths = 0
        """Times that the one at work died, or hung, and was replaced by what there was."""
        self.active = self._fresh()

    @property
    def has_spare(self) -> bool:
        """Whether a spare is hearing along."""
        return self._spare is not None

    def begin(self, pcm: Samples) -> None:
        """Have the one at work begin with float32 [960], a frame's first half. Raises CodecDied."""
        self._look_ahead()
        self._ask(lambda codec: codec.begin(pcm))
        self._begun = pcm

    def encode(self, pcm: Samples) -> Tokens:
        """float32 [1920], or the [960] after those begun with → one token a codebook. Raises
        CodecDied."""
        self._look_ahead()
        tokens = self._ask(lambda codec: codec.encode(pcm))
        whole = pcm if self._begun is None else np.concatenate((self._begun, pcm))
        self._begun = None
        self._lead(lambda spare: spare.take_sound(whole))
        return tokens

    def decode(self, tokens: Tokens) -> Samples:
        """One token a codebook → float32 [1920]. Raises CodecDied."""
        self._look_ahead()
        pcm = self._ask(lambda codec: codec.decode(tokens))
        self._lead(lambda spare: spare.take_tokens(tokens))
        return pcm

    def hurry(self) -> None:
        """A talk in real time begins: the one at work is served first, whichever it is."""
        self._is_urgent = True
        self._ask(lambda codec: codec.hurry())

    def start_afresh(self) -> None:
        """Replace what has been used by an object that has heard nothing."""
        is_used = _frames(self.active) > 0 or self._begun is not None
        self._begun = None
        if is_used:
            self._drop_spare()
            self._retire(self.active)
            self._take_over(self._fresh())

    def close(self) -> None:
        """End all processes, and wait for them."""
        self._drop_spare()
        self._retire(self.active)
        for codec in self._retired:
            codec.wait()

    def _look_ahead(self) -> None:
        """Before a frame: begin a spare, or put it in the place, if it is time to."""
        frames, life = _frames(self.active), self._life
        if self._spare is None:
            if frames >= life.frames_max:
                self._replace(self._another())
            elif frames >= self._begin_at:
                self._spare = self._make()
            return
        is_last_chance = frames >= life.frames_max
        try:
            if is_last_chance:
                self._spare.catch_up()
            elif not self._has_heard_enough(self._spare) or not self._spare.is_level():
                return
        except (BadCheckpoint, CodecDied) as e:
            self._give_up_spare(e)
            if is_last_chance:
                self._replace(self._another())
            return
        self._replace(self._spare)

    def _has_heard_enough(self, spare: Hosted) -> bool:
        return min(spare.encoded, spare.decoded) >= self._life.primed

    def _replace(self, successor: Hosted) -> None:
        log.debug("swapped the codec after %d frames", _frames(self.active))
        self._retire(self.active)
        self._take_over(successor)
        self.swaps += 1

    def _take_over(self, successor: Hosted) -> None:
        self.active, self._spare = successor, None
        self._begin_at = self._life.begin
        if self._is_urgent:
            successor.hurry()
        if self._begun is not None:
            successor.begin(self._begun)

    def _ask(self, question: Callable[[Hosted], T]) -> T:
        """The answer of the one at work, or, should it die, of the spare or a fresh one."""
        try:
            return question(self.active)
        except CodecDied as e:
            log.warning("the codec's process is replaced: %s", e.message)
        self.deaths += 1
        self._retire(self.active)
        self._take_over(self._spare or self._another())
        return question(self.active)

    def _lead(self, take: Callable[[Hosted], None]) -> None:
        if self._spare is None:
            return
        try:
            take(self._spare)
        except (BadCheckpoint, CodecDied) as e:
            self._give_up_spare(e)

    def _give_up_spare(self, error: MoshidError) -> None:
        log.warning("a spare codec failed: %s", error.message)
        self._drop_spare()
        self._begin_at = _frames(self.active) + RETRY_FRAMES

    def _another(self) -> Hosted:
        """A fresh one in the middle of a talk. Raises CodecDied, whatever it was."""
        try:
            return self._fresh()
        except BadCheckpoint as e:
            raise CodecDied(e.message) from e

    def _fresh(self) -> Hosted:
        codec = self._make()
        try:
            codec.catch_up()
        except (BadCheckpoint, CodecDied):
            codec.close()
            codec.wait()
            raise
        return codec

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._retire(self._spare)
            self._spare = None

    def _retire(self, codec: Hosted) -> None:
        """End it without waiting; those that have ended are let go of."""
        codec.close()
        self._retired = [other for other in self._retired if not other.has_ended()]
        self._retired.append(codec)


def _frames(codec: Hosted) -> int:
    """Of the direction that has had more."""
    return max(codec.encoded, codec.decoded)
