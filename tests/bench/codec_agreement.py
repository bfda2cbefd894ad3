"""How far a codec that has heard only the last frames agrees with one that has heard all.

A full-size Mimi with random weights, at two strengths of its layers, and the demo's trained one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from moshid.audio.codec import Tokens, as_pcm, open_codec
from moshid.audio.request import CodecSpec, parse
from moshid.audio.ring import Samples
from tests.bench.codec_seams import difference_db
from tests.fakes.audio_rig import DEMO_CODEC
from tests.fakes.mimi_weights import write_mimi

LAYER_SCALES: Final = (0.01, 0.3)
FULL_SIZE: Final = ((0, 25, 62, 125, 250), (260,), 40)
DEMO: Final = ((0, 8, 16, 32, 64), tuple(range(70, 290, 20)), 25)
"""Frames heard before each swap, the swaps' frames, and frames compared after each."""


class Mimi(Protocol):
    """Either codec, from its beginning."""

    def encode(self, pcm: Samples) -> Tokens:
        """float32 [1920] → one token a codebook."""

    def decode(self, tokens: Tokens) -> Samples:
        """One token a codebook → float32 [1920]."""


class Rusty:
    """A rustymimi object in this process."""

    def __init__(self, weights: str) -> None:
        import rustymimi

        self._tokenizer: Any = rustymimi.Tokenizer(weights, num_codebooks=8)

    def encode(self, pcm: Samples) -> Tokens:
        """At once."""
        codes = np.asarray(self._tokenizer.encode_step(pcm[None, None]))
        return tuple(codes[0, :, 0].tolist())

    def decode(self, tokens: Tokens) -> Samples:
        """At once."""
        codes = np.array(tokens, np.uint32)[None, :, None]
        return as_pcm(self._tokenizer.decode_step(codes))


def study(frames: Sequence[Samples], folder: Path) -> list[dict[str, Any]]:
    """A row for each codec and number of frames heard; 300 frames are enough."""
    rows = _compare("demo", lambda: open_codec(parse(DEMO_CODEC, CodecSpec)), frames, *DEMO)
    for scale in LAYER_SCALES:
        weights = write_mimi(folder / f"mimi-{scale}.safetensors", layer_scale=scale)
        name = f"full size, scale {scale}"
        rows += _compare(name, lambda w=str(weights): Rusty(w), frames, *FULL_SIZE)  # type: ignore[misc]
    return rows


def _compare(
    name: str,
    make: Callable[[], Mimi],
    frames: Sequence[Samples],
    all_heard: Sequence[int],
    swaps: Sequence[int],
    compared: int,
) -> list[dict[str, Any]]:
    whole = make()
    codes = [whole.encode(pcm) for pcm in frames]
    sound = [whole.decode(tokens) for tokens in codes]
    rows = []
    for heard in all_heard:
        same, differences_db = [], []
        for swap in swaps:
            codec = make()
            for frame in range(swap - heard, swap + compared):
                tokens, pcm = codec.encode(frames[frame]), codec.decode(codes[frame])
                if frame >= swap:
                    same.append(np.mean(np.equal(tokens, codes[frame])))
                    differences_db.append(difference_db(pcm, sound[frame]))
        row = {"codec": name, "heard": heard, "tokens_equal": round(float(np.mean(same)), 4)}
        row |= {"mean_db": round(float(np.mean(differences_db)), 1)}
        rows.append(row | {"worst_db": round(max(differences_db), 1)})
        print(rows[-1], flush=True)
    return rows
