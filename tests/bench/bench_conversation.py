"""What both sides of a talk cost a frame, on the thread that runs the codec: levels, speech, ramps,
recording.

``python -m tests.bench.bench_conversation [--frames N] [--json FILE]``
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from moshid.audio.conversation import Conversation
from moshid.audio.devices import Heard
from moshid.audio.frames import FRAME_NS, FRAME_SAMPLES
from moshid.audio.pump import Answer
from moshid.audio.recorder import Recorder
from moshid.audio.request import RecordTo
from moshid.audio.speech import EnergyDetector, SpeechDetector, WebRtcDetector
from moshid.demo import checkpoint


def measure(detector: SpeechDetector, frames: int, folder: Path | None) -> dict[str, Any]:
    """Milliseconds a frame, in speech; recorded into ``folder`` if there is one."""
    recorder = None
    if folder is not None:
        to = RecordTo(path=str(folder / "bench.wav"))
        recorder = Recorder(to, by_position=False, may_wait=True)
    conversation = Conversation(detector=detector, recorder=recorder)
    said = soundfile.read(checkpoint.speech_wav(), dtype="float32")[0]
    pieces = said[: len(said) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    took_ms = []
    for n in range(frames):
        position, end_ns = n * FRAME_SAMPLES, (n + 1) * FRAME_NS
        heard = Heard(pieces[n % len(pieces)], position, end_ns)
        begun_ns = time.perf_counter_ns()
        pcm = conversation.to_model(heard)
        assert conversation.reaches_model()
        conversation.hear(n, heard, heard, pcm)
        voice, loud = conversation.say(pcm)
        answer = Answer(n, position, end_ns, (), 0, end_ns)
        conversation.played(voice, loud, answer, end_ns + 40_000_000)
        took_ms.append((time.perf_counter_ns() - begun_ns) / 1e6)
    conversation.close()
    p50, p95 = np.percentile(took_ms, [50, 95])
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


def main() -> None:
    """Measure, print, and write the JSON file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in (("webrtc", WebRtcDetector), ("energy", EnergyDetector)):
            rows[name] = measure(kind(), args.frames, None)
        rows["webrtc, recorded"] = measure(WebRtcDetector(), args.frames, Path(folder))
    print(f"{'detector':18} {'p50 ms':>8} {'p95 ms':>8}")
    for name, row in rows.items():
        print(f"{name:18} {row['p50_ms']:8.3f} {row['p95_ms']:8.3f}")
    if args.json:
        args.json.write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
