"""Two sound servers, one clock 500 ppm off: heard on PulseAudio, played on JACK, for real."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.jack_rig import jack_server
from tests.fakes.pulse_rig import pulse_server

SECONDS = 12
ATTEMPTS = 3
"""A busy machine keeps a sound server from its turn: that is a gap whatever the clocks do."""


@pytest.mark.asyncio
async def test_a_speaker_500_ppm_too_fast_is_measured_and_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for attempt in range(ATTEMPTS):
        (folder := tmp_path / str(attempt)).mkdir()
        found.append(await sound_check(folder, monkeypatch))
        if found[-1]["after"].get("drift_ppm") == pytest.approx(500, abs=60):
            break
    assert found[-1]["after"]["drift_ppm"] == pytest.approx(500, abs=60), found
    assert found[-1]["after"]["frames"] == round(SECONDS / 0.08)


async def sound_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the child prints."""
    with (
        pulse_server(folder / "pulse", monkeypatch),
        jack_server(folder, monkeypatch, rate=24_012),
    ):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fakes.two_servers_child", str(SECONDS)),
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await child.communicate()
    if child.returncode != 0:
        return {"after": {}}  # a server had no turn for so long that the stream ended
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found
