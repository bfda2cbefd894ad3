"""What a codec is, and which one a checkpoint wants. Owns the Protocol and the choice.

A codec turns 80 ms of sound into one token a codebook, and back, frame after frame; both
directions remember what came before. All calls of one codec come from one thread.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np

from moshid.audio.frames import silence
from moshid.audio.request import CodecSpec
from moshid.audio.ring import Samples
from moshid.errors import BadCheckpoint

Tokens = tuple[int, ...]
"""One token a codebook, codebook 0 first."""

WARM_UP_FRAMES: Final = 3


class Codec(Protocol):
    """Frames of sound to tokens and back, each direction with its own memory."""

    @property
    def codebooks(self) -> int:
        """Tokens a frame."""

    @property
    def tail_frames(self) -> int:
        """Frames by which the end of a sound may come out after its own frame."""

    def begin(self, pcm: Samples) -> None:
        """Work on a frame's first half, float32 [960], before the frame is whole. The next
        ``encode`` gets its second half; a process elsewhere is not waited for."""

    def encode(self, pcm: Samples) -> Tokens:
        """float32 [1920] at 24 kHz, or the [960] that follow those begun with → ``codebooks``
        tokens."""

    def decode(self, tokens: Tokens) -> Samples:
        """``codebooks`` tokens → float32 [1920] at 24 kHz."""

    def reset(self) -> None:
        """Forget what came before, in both directions."""

    def hurry(self) -> None:
        """A talk in real time begins: what works elsewhere for it is served first."""

    def close(self) -> None:
        """Let go of what it holds. Safe to call twice."""


def open_codec(spec: CodecSpec) -> Codec:
    """Build the codec that ``spec`` names and run it once, so that the first frame is no slower.

    Raises:
        BadCheckpoint: a file is missing, damaged, or does not fit the configuration.
    """
    codec = _build(spec)
    try:
        for _ in range(WARM_UP_FRAMES):
            codec.decode(codec.encode(silence()))
    except (ValueError, RuntimeError) as e:
        codec.close()
        raise BadCheckpoint(f"the codec in {spec.weights} does not run: {first_line(e)}") from e
    codec.reset()
    return codec


def _build(spec: CodecSpec) -> Codec:
    if spec.kind == "mlx_mimi":
        from moshid.audio.codec_mlx import MlxMimi

        if spec.config is None:
            raise BadCheckpoint("an mlx_mimi codec needs its configuration file")
        return MlxMimi(spec.weights, spec.config, spec.codebooks)
    from moshid.audio.codec_rusty import RustyMimi

    return RustyMimi(spec.weights, spec.codebooks)


def as_pcm(array: Any) -> Samples:
    """Whatever array a library returned, as float32 [n]."""
    return np.ascontiguousarray(array, dtype=np.float32).reshape(-1)


def first_line(error: Exception) -> str:
    """An error's text without the native back trace that candle appends."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
