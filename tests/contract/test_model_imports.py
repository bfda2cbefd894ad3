"""The daemon's half of the model part loads no numerical library, directly or indirectly."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {"mlx", "moshi_mlx", "numpy", "sentencepiece", "rustymimi", "sounddevice", "soxr"}
DAEMON_SIDE = (
    *("service", "catalogue", "residency", "files", "messages", "states", "engine"),
    *("keeping", "lending", "pressure", "status", "tending", "watchdog", "footprint", "monitor"),
    *("auto", "machine", "memory", "qualities", "quantised_store"),
)


def test_the_daemons_modules_load_no_numerical_library() -> None:
    imports = "; ".join(f"import moshid.model.{name}" for name in DAEMON_SIDE)
    code = f"import json, sys; {imports}; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    loaded = {name.split(".")[0] for name in json.loads(out)}
    assert loaded.isdisjoint(HEAVY), loaded & HEAVY
    assert "msgspec" in loaded
