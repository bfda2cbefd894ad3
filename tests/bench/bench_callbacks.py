"""The callback in C beside the one in Python: ``python -m tests.bench.bench_callbacks``.

Each serves the same stream on JACK's dummy driver, while the main thread passes frames through and
runs the demo codec, alone and beside two processes that burn the CPU. Counted at the output ports,
to the sample: what did not come back as it was spoken. Printed with ``--json FILE`` as JSON too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from moshid.demo.lags import lag_samples
from moshid.demo.probe import JackProbe, Samples
from moshid.demo.sound import JackServer, sound_environment

RATE = 24_000
FRAME = 1_920
LEAD = 3 * FRAME
"""Frames lie in the ring so long before they are played: only the callback can be late."""
BURN = "while True: pass"


def serve(seconds: float, *, python: bool) -> dict[str, Any]:
    """The child: frames from microphone to speaker, the codec busy in between."""
    from moshid.audio.callback_python import PythonCallback
    from moshid.audio.codec import open_codec
    from moshid.audio.device_list import find_device
    from moshid.audio.portaudio import PortAudioStream
    from moshid.audio.request import CodecSpec
    from moshid.urgency import Urgency
    from tests.fakes.audio_rig import DEMO_CODEC

    sys.setswitchinterval(0.0005)  # as the audio worker has it
    Urgency().raise_()
    codec = open_codec(CodecSpec(**DEMO_CODEC))  # type: ignore[arg-type]
    stream = PortAudioStream(
        find_device("system", "input"),
        find_device("JACK Audio", "output"),
        callback=PythonCallback if python else None,
    )
    base = stream.base()[1]
    stream.to_play.write(np.zeros(LEAD - (stream.played - base), dtype=np.float32))
    jitter_ms = []
    ends_ns = time.monotonic_ns() + round(seconds * 1e9)
    begun_ns, begun_at = stream.stamp_ns, 0
    while (now_ns := time.monotonic_ns()) < ends_ns:
        stream.check(now_ns)
        frame = stream.heard.take(FRAME)
        if frame is None:
            time.sleep(0.001)
            continue
        begun_at += FRAME
        delivered_ns = stream.stamp_ns - round(len(stream.heard) * 1e9 / RATE)
        jitter_ms.append((delivered_ns - begun_ns) / 1e6 - begun_at * 1e3 / RATE)
        stream.to_play.write(frame)
        codec.decode(codec.encode(frame))
    stream.close()
    late = np.array(jitter_ms[12:]) - np.median(jitter_ms[12:])
    return {
        "stamp_jitter_ms_p95": round(float(np.percentile(np.abs(late), 95)), 3),
        "stamp_jitter_ms_max": round(float(np.abs(late).max()), 3),
        "cpu_s": round(time.process_time(), 2),
    }


@contextmanager
def burning(processes: int) -> Iterator[None]:
    """Processes that take what CPU they get."""
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(processes)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def measure(seconds: float, period: int, *, python: bool, burners: int) -> dict[str, Any]:
    """One run: the child's numbers and those of the probe."""
    rng = np.random.default_rng(3)
    spoken = (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, JackServer(Path(folder), period=period) as server:
        command = [sys.executable, "-m", "tests.bench.bench_callbacks"]
        command += ["--serve", "python" if python else "c", "--seconds", str(seconds + 4)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, env=sound_environment(server, os.environ)
        )
        assert child.stdout is not None
        with JackProbe(server) as probe:
            probe.attach()
            time.sleep(1.0)
            with burning(burners):
                probe.play(spoken, tail_s=1.0)
                heard = probe.wait(seconds + 60)
            xruns = probe.xruns
        facts: dict[str, Any] = json.loads(child.stdout.read())
        child.wait()
    return facts | {"xruns": xruns, **differences(spoken, heard)}


def differences(spoken: Samples, heard: Samples) -> dict[str, Any]:
    """Samples that are not those spoken, each second at the delay that most of it has."""
    wrong = gaps = 0
    lags = []
    for start in range(0, len(spoken) - RATE + 1, RATE):
        piece = spoken[start : start + RATE]
        lag = lag_samples(piece, heard[start : start + 2 * RATE])
        differs = np.abs(heard[start + lag :][:RATE] - piece) > 1e-5
        wrong += int(differs.sum())
        gaps += int((np.diff(differs.astype(np.int8)) == 1).sum()) + int(differs[0])
        lags.append(lag)
    return {
        "delay_ms": round(float(np.median(lags)) / RATE * 1e3, 1),
        "wrong_ms": round(wrong / RATE * 1e3, 1),
        "gaps": gaps,
    }


def main() -> None:
    """Print a line for each callback and load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json")
    parser.add_argument("--serve", choices=["c", "python"])
    args = parser.parse_args()
    if args.serve:
        print(json.dumps(serve(args.seconds, python=args.serve == "python")))
        return
    rows = []
    for period, burners in ((240, 0), (240, 2), (64, 2)):
        for python in (False, True):
            facts = measure(args.seconds, period, python=python, burners=burners)
            given = {"callback": "python" if python else "C", "period": period, "burners": burners}
            rows.append(given | facts)
            print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
