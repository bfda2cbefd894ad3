"""Echo cancellers side by side in simulated rooms: ``python -m tests.bench.bench_echo``.

Voices are espeak-ng's on both sides, rooms those of ``tests/fakes/rooms.py``. ERLE: level of the
echo over level of what is left of it, from 2 s to 8 s, with hiss of -90 dBFS. Converged: the first
half second in which that is the aim or better (45 dB for a single path, 30 dB for a room). Loss: by
how much the near voice is quieter in double talk than the same canceller leaves it without echo,
its level found by linear projection. CPU: process time for a frame of 80 ms.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from moshid.audio.frames import FRAME_SAMPLES, SAMPLE_RATE
from tests.bench.echo_candidates import CANDIDATES, Candidate
from tests.fakes import rooms
from tests.fakes.echo_runs import NOISE_DBFS, Scene, run
from tests.fakes.rooms import Response, Samples

SECONDS: Final = 8.0
NEAR_FROM_S: Final = 4.0
DOUBLE_TALK_S: Final = 12.0
WINDOW_S: Final = 0.5
SINGLE_AIM_DB: Final = 45.0
ROOM_AIM_DB: Final = 30.0


def echo_scenes() -> dict[str, tuple[Samples, Samples, float]]:
    """Far sound, its echo, and the aim in decibels, by name."""
    far = rooms.far_voice(SECONDS)
    room = rooms.shoebox(0.2, 40)

    def of(response: Response, aim_db: float) -> tuple[Samples, Samples, float]:
        return far, rooms.heard_of(far, response), aim_db

    scenes = {
        f"one path, {delay_ms} ms": of(rooms.single_path(delay_ms), SINGLE_AIM_DB)
        for delay_ms in (40, 100, 200, 400)
    }
    scenes["room 0.2 s, 40 ms"] = of(room, ROOM_AIM_DB)
    scenes["room 0.2 s, 250 ms"] = of(rooms.shoebox(0.2, 250), ROOM_AIM_DB)
    scenes["room 0.4 s, 40 ms"] = of(rooms.shoebox(0.4, 40), ROOM_AIM_DB)
    for ppm in (5, 20, 50):
        echo = rooms.heard_of(rooms.drifting(far, ppm), room)
        scenes[f"room 0.2 s, drift {ppm} ppm"] = far, echo, ROOM_AIM_DB
    peak = np.abs(far).max()
    for percent, drive in ((1.4, 0.5), (4.9, 1.0)):
        bent = (np.tanh(drive * far / peak) * peak / drive).astype(np.float32)
        scenes[f"room 0.2 s, loudspeaker bent by {percent} %"] = (
            far,
            rooms.heard_of(bent, room),
            ROOM_AIM_DB,
        )
    return scenes


def double_talk_scenes() -> dict[str, tuple[Scene, float]]:
    """What is heard, and when the near voice begins, by name."""
    far, near = rooms.far_voice(DOUBLE_TALK_S), rooms.near_voice(DOUBLE_TALK_S)
    later = near.copy()
    later[: round(NEAR_FROM_S * SAMPLE_RATE)] = 0
    heard = rooms.heard_of(far, rooms.shoebox(0.2, 40))
    faint = rooms.heard_of(far, rooms.shoebox(0.2, 40, gain_db=-16))
    late = rooms.heard_of(far, rooms.shoebox(0.2, 250))
    drift = rooms.heard_of(rooms.drifting(far, 20), rooms.shoebox(0.2, 40))
    return {
        "after 4 s, room 40 ms": (Scene(far, heard, later), NEAR_FROM_S),
        "after 4 s, room 250 ms": (Scene(far, late, later), NEAR_FROM_S),
        "after 4 s, echo 10 dB fainter": (Scene(far, faint, later), NEAR_FROM_S),
        "after 4 s, drift 20 ppm": (Scene(far, drift, later), NEAR_FROM_S),
        "from the start, room 40 ms": (Scene(far, heard, near), 0.0),
        "from the start, room 250 ms": (Scene(far, late, near), 0.0),
    }


def removed(candidate: Candidate, far: Samples, echo: Samples, aim_db: float) -> dict[str, Any]:
    """One candidate on one echo."""
    chain = candidate()
    out = run(chain, echo + rooms.hiss(len(echo), NOISE_DBFS), far)
    steps = [0.1 * i for i in range(round((SECONDS - WINDOW_S) / 0.1))]
    good = (t for t in steps if rooms.removed_db(echo, out, t, t + WINDOW_S) >= aim_db)
    converged_s = next(good, None)
    return {
        "first_s_db": round(rooms.removed_db(echo, out, 0, 1), 1),
        "erle_db": round(rooms.removed_db(echo, out, 2, SECONDS), 1),
        "converged_s": None if converged_s is None else round(converged_s, 1),
    }


def lost(candidate: Candidate, heard: Scene, near_from_s: float) -> dict[str, float]:
    """What double talk costs the near voice."""
    chain, alone = candidate(), candidate()
    hiss = rooms.hiss(len(heard.far), NOISE_DBFS)
    out = run(chain, heard.microphone, heard.far)
    kept = run(alone, heard.near + hiss, np.zeros_like(heard.far))
    judged_s = near_from_s + 0.5
    loss_db = rooms.voice_loss_db(out, heard.near, judged_s, chain.delay)
    alone_db = rooms.voice_loss_db(kept, heard.near, judged_s, alone.delay)
    return {"more_db": round(loss_db - alone_db, 1), "alone_db": round(alone_db, 1)}


def cost_ms(candidate: Candidate) -> float:
    """Process time a frame, both sides speaking."""
    far, near = rooms.far_voice(SECONDS), rooms.near_voice(SECONDS)
    heard = rooms.heard_of(far, rooms.shoebox(0.2, 40)) + near
    chain = candidate()
    begun_s = time.process_time()
    run(chain, heard, far)
    return round(1e3 * (time.process_time() - begun_s) / (len(far) / FRAME_SAMPLES), 2)


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Everything."""
    result: dict[str, Any] = {"machine": platform.machine(), "echo": {}, "double_talk": {}}
    result["cost_ms"] = {name: cost_ms(candidate) for name, candidate in CANDIDATES.items()}
    for name, (far, echo, aim_db) in echo_scenes().items():
        say(name)
        result["echo"][name] = {
            c: removed(make, far, echo, aim_db) for c, make in CANDIDATES.items()
        }
    for name, (heard, near_from_s) in double_talk_scenes().items():
        say(name)
        result["double_talk"][name] = {
            c: lost(make, heard, near_from_s) for c, make in CANDIDATES.items()
        }
    return result


def tables(result: dict[str, Any]) -> str:
    """Markdown."""
    names = list(result["cost_ms"])
    head = "| | " + " | ".join(names) + " |\n|---|" + "--:|" * len(names)
    lines = ["Removed from 2 s on, dB (in the first second; converged after):", "", head]
    for scene, row in result["echo"].items():
        lines.append(f"| {scene} | " + " | ".join(_removed(row[n]) for n in names) + " |")
    lines += ["", "Loss of the near voice in double talk, dB more than without echo:", "", head]
    for scene, row in result["double_talk"].items():
        lines.append(f"| {scene} | " + " | ".join(f"{row[n]['more_db']:.1f}" for n in names) + " |")
    alone = next(iter(result["double_talk"].values()))
    cells = " | ".join(f"{alone[n]['alone_db']:.1f}" for n in names)
    lines.append(f"| *loss without any echo* | {cells} |")
    cells = " | ".join(f"{result['cost_ms'][n]:.1f}" for n in names)
    lines.append(f"| *CPU ms a frame* | {cells} |")
    return "\n".join(lines)


def _removed(cell: dict[str, Any]) -> str:
    after = "never" if cell["converged_s"] is None else f"{cell['converged_s']:.1f} s"
    return f"{cell['erle_db']:.0f} ({cell['first_s_db']:.0f}; {after})"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--picture", type=Path, help="draw levels over time there")
    args = parser.parse_args()
    result = measure(lambda name: print(f"... {name}", flush=True))
    print(tables(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.picture:
        from tests.bench.echo_picture import draw

        draw(args.picture)


if __name__ == "__main__":
    main()
