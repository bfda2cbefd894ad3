"""The standard Mimi through rustymimi (Rust, candle). Owns how long one of its objects lasts.

rustymimi keeps a table of positions, two a frame, that nothing rewinds, and keys and values of all
of them, 128 kB a frame. Well before the end of the table an object is replaced by a spare that has
heard the same (``codec_spares``).
"""

from __future__ import annotations

from typing import Final

from moshid.audio.codec import Tokens
from moshid.audio.codec_process import CodecProcess
from moshid.audio.codec_spares import Life, Spares
from moshid.audio.ring import Samples

POSITIONS_PER_FRAME: Final = 2
LIFE: Final = Life(frames_max=4096, begin=1750)
"""Swapped after 2,000 frames, 160 s: keys and values take 262 MB by then, beside 366 MB of weights.
The table as it comes leaves as much again, should a spare be late or not to be had."""


class RustyMimi:
    """Mimi as released, 8 to 32 codebooks."""

    tail_frames = 1

    def __init__(self, weights: str, codebooks: int, *, life: Life = LIFE) -> None:
        """Raises BadCheckpoint when the file is missing or no Mimi, CodecDied."""
        self.codebooks = codebooks
        positions = life.frames_max * POSITIONS_PER_FRAME
        self.spares = Spares(lambda: CodecProcess(weights, codebooks, positions), life)

    def begin(self, pcm: Samples) -> None:
        """Have the process work on float32 [960], a frame's first half. Raises CodecDied."""
        self.spares.begin(pcm)

    def encode(self, pcm: Samples) -> Tokens:
        """float32 [1920], or the [960] after those begun with → one token a codebook. Raises
        CodecDied."""
        return self.spares.encode(pcm)

    def decode(self, tokens: Tokens) -> Samples:
        """One token a codebook → float32 [1920]. Raises CodecDied."""
        return self.spares.decode(tokens)

    def reset(self) -> None:
        """Forget the past of both directions, by a fresh object if this one has been used.

        ``Tokenizer.reset`` rewinds no positions and leaves the last convolution's past: the frame
        after it gets other codes.
        """
        self.spares.start_afresh()

    def hurry(self) -> None:
        """Have the process at work be served first. Raises CodecDied."""
        self.spares.hurry()

    def close(self) -> None:
        """End the processes."""
        self.spares.close()
