"""Runs the newest huggingface_hub, which lives in an environment of its own (`make setup`)."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("newest_hub_client.py")


def newest_python() -> Path:
    """Its interpreter."""
    cache = Path(os.environ.get("MOSHID_TEST_CACHE") or ROOT / ".cache")
    python = cache / "newest-hub" / "bin" / "python"
    assert (python.parent.parent / ".installed").exists(), f"run `make setup`: no {python}"
    return python


async def newest(
    command: str, *, endpoint: str, cache: Path, offline: bool = False, **parameters: object
) -> dict[str, Any]:
    """What ``newest_hub_client`` says to this command; without Xet, which has no server here."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHON"))}
    env = clean | {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_CACHE": str(cache),
        "HF_HOME": str(cache.parent / "hf-home"),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "NO_PROXY": "127.0.0.1",
    }
    process = await asyncio.create_subprocess_exec(
        newest_python(),
        SCRIPT,
        command,
        json.dumps(parameters),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    answer: dict[str, Any] = json.loads(told)
    assert answer["version"].startswith("2."), "another major than the locked one"
    return answer
