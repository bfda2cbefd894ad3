"""Both codecs for a long time, as fast as they run: swaps, codes, sound, memory, time.

``python -m tests.bench.bench_codec [--codec mlx|rustymimi]... [--frames N] [--json FILE]
[--picture FILE] [--agreement] [--halves] [--alone]``; 45,000 frames are an hour, and what there is
when it is interrupted counts. The demo's codec runs in MLX, a full-size Mimi with random weights in
rustymimi. Each is compared with one that never ends: MLX with its own growing caches, and a
rustymimi object with a table as long as the run; ``--alone``, which takes half as long, rustymimi
is not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import numpy as np
import psutil
import soundfile

from moshid.audio.codec import Codec, Tokens, open_codec
from moshid.audio.codec_rusty import RustyMimi
from moshid.audio.frames import FRAME_SAMPLES
from moshid.audio.request import CodecSpec, parse
from moshid.audio.ring import Samples
from tests.bench.codec_seams import Seam, measure
from tests.fakes.audio_rig import DEMO_CODEC, make_speech
from tests.fakes.mimi_weights import write_mimi

MIB: Final = 1 << 20
MEMORY_EVERY: Final = 250
SETTLED: Final = 500
"""Frames after which memory is called its first."""

TEXT: Final = (
    "The quick brown fox jumps over the lazy dog. How are you today, my friend? "
    "She sells sea shells by the sea shore, and the shells she sells are surely sea shells. "
)


@dataclass(slots=True)
class Run:
    """What one codec did."""

    codec: str
    frames: int = 0
    ms: list[float] = field(default_factory=list)
    """Of encoding and decoding each frame."""
    swap_frames: list[int] = field(default_factory=list)
    swap_ms: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    equal: list[float] = field(default_factory=list)
    seams: list[Seam] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        p50, p99 = np.percentile(self.ms, [50, 99])
        settled = self.memory_mib[SETTLED // MEMORY_EVERY :] or self.memory_mib
        return {
            "codec": self.codec,
            "frames": self.frames,
            "frame_ms": {"p50": round(p50, 1), "p99": round(p99, 1), "max": max(self.ms)},
            "swaps": len(self.swap_frames),
            "swap_ms": [round(ms, 1) for ms in self.swap_ms],
            "memory_mib": {
                "first": round(settled[0]),
                "last": round(settled[-1]),
                "max": round(max(settled)),
            },
            "tokens_equal": round(float(np.mean(self.equal)), 5) if self.equal else None,
            "seams": [seam.to_dict() for seam in self.seams],
        }


def speech(folder: Path, frames: int) -> Iterator[Samples]:
    """Espeak's voice, over and over, a little louder and softer each time."""
    path = folder / "speech.wav"
    if not path.exists():  # espeak never says it twice in the same way
        make_speech(path, text=TEXT)
    pcm = soundfile.read(path, dtype="float32")[0]
    whole = len(pcm) // FRAME_SAMPLES
    rng = np.random.default_rng(0)
    gain = 1.0
    for frame in range(frames):
        at = frame % whole
        gain = rng.uniform(0.3, 1.0) if at == 0 else gain
        yield (gain * pcm[at * FRAME_SAMPLES : (at + 1) * FRAME_SAMPLES]).astype(np.float32)


def run_mlx(folder: Path, frames: int, run: Run) -> None:
    """The demo's codec: first as upstream has it, then ours, so that memory is ours alone."""
    spec = parse(DEMO_CODEC, CodecSpec)
    theirs: Any = open_codec(spec)
    mimi = theirs._mimi
    for name in ("encoder", "decoder"):
        setattr(mimi, f"{name}_cache", getattr(mimi, f"{name}_transformer").make_cache())
    mimi.reset_all()
    heard = (mx.array(pcm)[None, None] for pcm in speech(folder, frames))
    codes = [tuple(np.asarray(mimi.encode_step(pcm))[0, :, 0].tolist()) for pcm in heard]
    del theirs, mimi
    codec = open_codec(spec)
    for frame, pcm in enumerate(speech(folder, frames)):
        tokens = _timed(run, codec, pcm, codes[frame])[0]
        run.equal.append(float(np.mean(np.equal(tokens, codes[frame]))))
        _look_at_memory(run, psutil.Process())


def run_alone(folder: Path, frames: int, run: Run) -> None:
    """A full-size Mimi that decodes what it has encoded; nothing is compared."""
    codec = RustyMimi(str(write_mimi(folder / "mimi.safetensors")), 8)
    said: Tokens = (0,) * 8
    for frame, pcm in enumerate(speech(folder, frames)):
        said = _swapping(run, codec, pcm, said, frame)[0]
        _look_at_memory(run, *psutil.Process().children())
    codec.close()


def run_rustymimi(folder: Path, frames: int, run: Run) -> None:
    """A full-size Mimi, beside an object that hears it all."""
    import rustymimi

    weights = str(write_mimi(folder / "mimi.safetensors"))
    whole = rustymimi.Tokenizer(weights, num_codebooks=8, max_seq_len=2 * frames)
    codec = RustyMimi(weights, 8)
    codes: list[tuple[Tokens, Tokens]] = []
    sound: list[tuple[Samples, Samples]] = []
    for frame, pcm in enumerate(speech(folder, frames)):
        expected = np.asarray(whole.encode_step(pcm[None, None]))
        theirs = np.asarray(whole.decode_step(expected))[0, 0]
        expected_codes = tuple(expected[0, :, 0].tolist())
        tokens, ours = _swapping(run, codec, pcm, expected_codes, frame)
        codes.append((tokens, expected_codes))
        sound.append((ours, theirs))
        run.equal.append(float(np.mean(np.equal(*codes[-1]))))
        _look_at_memory(run, *psutil.Process().children())
        if run.swap_frames and frame == run.swap_frames[-1] + 30:
            run.seams.append(measure(run.swap_frames[-1], codes, sound))
            print(f"  frame {frame}: {run.seams[-1]}", flush=True)
    codec.close()


def _swapping(
    run: Run, codec: RustyMimi, pcm: Samples, said: Tokens, frame: int
) -> tuple[Tokens, Samples]:
    swaps = codec.spares.swaps
    answer = _timed(run, codec, pcm, said)
    if codec.spares.swaps > swaps:
        run.swap_frames.append(frame)
        run.swap_ms.append(run.ms[-1])
        print(f"  swap {codec.spares.swaps} at frame {frame}: {run.ms[-1]:.1f} ms", flush=True)
    return answer


def _timed(run: Run, codec: Codec, pcm: Samples, said: Tokens) -> tuple[Tokens, Samples]:
    begun_s = time.monotonic()
    answer = codec.encode(pcm), codec.decode(said)
    run.ms.append(1e3 * (time.monotonic() - begun_s))
    run.frames += 1
    return answer


def _look_at_memory(run: Run, *processes: psutil.Process) -> None:
    if run.frames % MEMORY_EVERY == 0:
        run.memory_mib.append(sum(p.memory_info().rss for p in processes) / MIB)
        print(f"  {run.codec}: {run.frames} frames, {run.memory_mib[-1]:.0f} MiB", flush=True)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codec", action="append", choices=("mlx", "rustymimi"))
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="draw a swap's seam, and nothing else")
    parser.add_argument("--alone", action="store_true", help="rustymimi without its companion")
    parser.add_argument("--agreement", action="store_true", help="by frames heard; nothing else")
    parser.add_argument("--halves", action="store_true", help="frames whole and halved; no more")
    args = parser.parse_args()
    if args.picture:
        from tests.bench.codec_picture import draw

        draw(args.picture)
        return
    if args.agreement:
        from tests.bench.codec_agreement import study

        with tempfile.TemporaryDirectory() as folder:
            study(list(speech(Path(folder), 315)), Path(folder))
        return
    if args.halves:
        from tests.bench.codec_halves import study as compare

        with tempfile.TemporaryDirectory() as folder:
            compare(list(speech(Path(folder), 50)), Path(folder))
        return
    results = []
    runs = {"mlx": run_mlx, "rustymimi": run_alone if args.alone else run_rustymimi}
    for name in args.codec or ("mlx", "rustymimi"):
        run = Run(name)
        with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
            runs[name](Path(folder), args.frames, run)
        results.append(run.to_dict())
        print(json.dumps(results[-1], indent=1), flush=True)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
