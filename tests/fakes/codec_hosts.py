"""Codec objects as ``Spares`` sees them, without weights or processes: they last a few frames only,
remember a few, and do what a test tells them to."""

from __future__ import annotations

import zlib
from collections import deque

import numpy as np

from moshid.audio.codec import Tokens
from moshid.audio.ring import Samples
from moshid.errors import BadCheckpoint, CodecDied

CONTEXT_FRAMES = 10
"""What answers depend on, in each direction."""


class FakeHost:
    """Answers with a digest of the last ``CONTEXT_FRAMES``; raises after ``frames_max`` of them."""

    def __init__(self, frames_max: int) -> None:
        self.frames_max = frames_max
        self.encoded = self.decoded = 0
        self.answered = 0
        self.behind = False
        """Whether it is late in taking in what it is given, until ``catch_up``."""
        self.dead = False
        self.bad = False
        self.closed = False
        self.ended = False
        self.waits = 0
        self.hurries = 0
        self._begun = b""
        self._heard: deque[bytes] = deque(maxlen=CONTEXT_FRAMES)
        self._said: deque[bytes] = deque(maxlen=CONTEXT_FRAMES)

    def begin(self, pcm: Samples) -> None:
        """Remember it, until the other half comes."""
        self._look()
        assert not self._begun, "a frame was begun twice"
        self._begun = pcm.tobytes()

    def encode(self, pcm: Samples) -> Tokens:
        """The digest of what was heard, as tokens."""
        self.take_sound(pcm)
        self.answered += 1
        return (zlib.crc32(b"".join(self._heard)),)

    def decode(self, tokens: Tokens) -> Samples:
        """The digest of what was said, as sound."""
        self.take_tokens(tokens)
        self.answered += 1
        return np.array([zlib.crc32(b"".join(self._said))], np.float32)

    def take_sound(self, pcm: Samples) -> None:
        """Remember it."""
        self._look()
        assert self.encoded < self.frames_max, "the table of positions has ended"
        self.encoded += 1
        self._heard.append(self._begun + pcm.tobytes())
        self._begun = b""

    def take_tokens(self, tokens: Tokens) -> None:
        """Remember it."""
        self._look()
        assert self.decoded < self.frames_max, "the table of positions has ended"
        self.decoded += 1
        self._said.append(repr(tokens).encode())

    def hurry(self) -> None:
        """Counted."""
        self._look()
        self.hurries += 1

    def is_level(self) -> bool:
        """Unless the test says otherwise."""
        self._look()
        return not self.behind

    def catch_up(self) -> None:
        """Counted."""
        self._look()
        self.waits += 1

    def close(self) -> None:
        """Ends when the test says so, or is waited for."""
        self.closed = True

    def has_ended(self) -> bool:
        """As the test says."""
        return self.ended

    def wait(self) -> None:
        """Then it has."""
        assert self.closed, "it would be waited for in vain"
        self.ended = True

    def _look(self) -> None:
        if self.dead:
            raise CodecDied("killed by the test")
        if self.bad:
            raise BadCheckpoint("no codec, says the test")


class Hosts:
    """Makes them, and knows them all."""

    def __init__(self, frames_max: int) -> None:
        self.made: list[FakeHost] = []
        self.behind = False
        self.bad = False
        self._frames_max = frames_max

    def __call__(self) -> FakeHost:
        host = FakeHost(self._frames_max)
        host.behind, host.bad = self.behind, self.bad
        self.made.append(host)
        return host
