"""The standard Mimi through rustymimi (Rust, candle). Owns that codec and its position limit.

rustymimi keeps a table of positions, two a frame, that ``reset`` does not rewind: 8,192 as it
comes, 327.68 s over an object's whole life. ``max_seq_len`` sets the table's length; at its end the
object is replaced by a fresh one that has been shown the last frames.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

import numpy as np
import rustymimi

from moshid.audio.codec import Tokens, as_pcm, first_line
from moshid.audio.ring import Samples
from moshid.errors import BadCheckpoint

log = logging.getLogger(__name__)

FRAMES_MAX: Final = 65_536
"""87 minutes; a longer table costs memory and load time, and blurs float32 angles."""

POSITIONS_PER_FRAME: Final = 2
PRIMING_FRAMES: Final = 25
"""2 s of the past: replacing blocks the loop for as long as these take to encode and decode."""


class RustyMimi:
    """Mimi as released, 8 to 32 codebooks."""

    tail_frames = 1

    def __init__(self, weights: str, codebooks: int, *, frames_max: int = FRAMES_MAX) -> None:
        """Raises BadCheckpoint when the file is missing or no Mimi."""
        self._weights = weights
        self.codebooks = codebooks
        self._frames_max = frames_max
        priming = min(PRIMING_FRAMES, frames_max // 2)
        self._heard: deque[Samples] = deque(maxlen=priming)
        self._said: deque[Tokens] = deque(maxlen=priming)
        self._tokenizer: Any = self._make()
        self._encoded = self._decoded = 0

    def encode(self, pcm: Samples) -> Tokens:
        """float32 [1920] → one token a codebook."""
        if self._encoded >= self._frames_max:
            self._replace()
        self._encoded += 1
        self._heard.append(pcm)
        codes = np.asarray(self._tokenizer.encode_step(pcm[None, None]))
        return tuple(codes[0, :, 0].tolist())

    def decode(self, tokens: Tokens) -> Samples:
        """One token a codebook → float32 [1920]."""
        if self._decoded >= self._frames_max:
            self._replace()
        self._decoded += 1
        self._said.append(tokens)
        codes = np.array(tokens, dtype=np.uint32)[None, :, None]
        return as_pcm(self._tokenizer.decode_step(codes))

    def reset(self) -> None:
        """Forget the past of both directions, by a fresh object if this one has been used.

        ``Tokenizer.reset`` rewinds no positions, and the frame after it gets other codes (seen).
        """
        if self._encoded or self._decoded:
            self._tokenizer = self._make()
            self._encoded = self._decoded = 0
            self._heard.clear()
            self._said.clear()

    def _make(self) -> Any:
        try:
            return rustymimi.Tokenizer(
                self._weights,
                num_codebooks=self.codebooks,
                max_seq_len=self._frames_max * POSITIONS_PER_FRAME,
            )
        except ValueError as e:
            raise BadCheckpoint(
                f"the codec in {self._weights} cannot be read: {first_line(e)}"
            ) from e

    def _replace(self) -> None:
        log.info("replacing the codec at its position limit", extra={"frames": self._frames_max})
        self._tokenizer = self._make()
        for pcm in self._heard:
            self._tokenizer.encode_step(pcm[None, None])
        for tokens in self._said:
            self._tokenizer.decode_step(np.array(tokens, dtype=np.uint32)[None, :, None])
        self._encoded, self._decoded = len(self._heard), len(self._said)
