"""``moshid demo`` as a whole, in an empty environment: what it promises is in its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


@pytest.mark.timeout(300)
def test_the_demo_does_all_it_says(tmp_path: Path) -> None:
    out = tmp_path / "out"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "moshid", "demo", "--out", str(out)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for said in ("killed the daemon with SIGKILL", "the daemon is back", "it works"):
        assert said in done.stdout + done.stderr
    facts = json.loads((out / "report.json").read_text())
    job = facts["job"]
    assert job["state"] == "done"
    assert job["bytes_done"] == job["bytes_total"] == facts["bytes_total"]
    assert job["bytes_refetched"] < job["bytes_total"] / 2, "it went on from the ledger"
    assert job["retries"] > 0, "the line was cut"
    assert facts["files_verified"] == 5
    for talk in (facts["talk_files"], facts["talk_sound"]):
        assert talk["state"] == "stopped"
        assert talk["frames"] > 100
        assert talk["correlation"] > 0.7
        assert len([level for level in talk["levels"] if level["step_ms"]]) > 50
    assert facts["talk_files"]["lag_ms"] == pytest.approx(250, abs=10), "240 and the codec's 10"
    assert facts["talk_files"]["transcript"]
    with Image.open(out / "report.png") as picture:
        assert picture.size[0] > 1000
    for name in ("files-input", "files-output", "sound-input", "sound-output"):
        assert (out / f"{name}.wav").stat().st_size > 100_000
