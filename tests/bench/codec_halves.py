"""What a frame costs an encoder whole, and by halves of which the first is done before its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from moshid.audio.codec import Codec, open_codec
from moshid.audio.frames import HALF_SAMPLES
from moshid.audio.request import CodecSpec, parse
from moshid.audio.ring import Samples
from tests.fakes.audio_rig import DEMO_CODEC
from tests.fakes.mimi_weights import write_mimi


def study(frames: Sequence[Samples], folder: Path) -> list[dict[str, Any]]:
    """A row for each codec."""
    weights = str(write_mimi(folder / "mimi.safetensors"))
    specs = {"demo": parse(DEMO_CODEC, CodecSpec), "full-size": CodecSpec("rustymimi", weights, 8)}
    rows = []
    for name, spec in specs.items():
        with closing(open_codec(spec)) as codec:
            rows.append({"codec": name} | _compare(codec, frames))
        print(rows[-1], flush=True)
    return rows


def _compare(codec: Codec, frames: Sequence[Samples]) -> dict[str, Any]:
    codec.reset()
    whole_ms, codes = [], []
    for pcm in frames:
        begun_s = time.perf_counter()
        codes.append(codec.encode(pcm))
        whole_ms.append(1e3 * (time.perf_counter() - begun_s))
    codec.reset()
    first_ms, second_ms, halved = [], [], []
    for pcm in frames:
        begun_s = time.perf_counter()
        codec.begin(pcm[:HALF_SAMPLES])
        codec.decode(codes[0])  # which waits for a process elsewhere
        between_s = time.perf_counter()
        codec.decode(codes[0])
        decoded_s = time.perf_counter()
        halved.append(codec.encode(pcm[HALF_SAMPLES:]))
        first_ms.append(1e3 * (between_s - begun_s - (decoded_s - between_s)))
        second_ms.append(1e3 * (time.perf_counter() - decoded_s))
    parts = {"whole": whole_ms, "first half": first_ms, "second half": second_ms}
    told = {f"{name}_ms": round(float(np.median(ms)), 1) for name, ms in parts.items()}
    return told | {"codes_equal": round(float(np.mean(np.equal(halved, codes))), 4)}
