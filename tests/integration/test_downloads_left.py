"""A real daemon: its downloads go on when the client leaves; offline it uses what is there."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moshi_client.errors import RemoteError
from moshid.demo.home import World
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads import assert_in_cache

WEIGHTS = "model.safetensors"
SIZE = 2_000_001
LIMIT_S = 60.0


@pytest.fixture
def world() -> Iterator[World]:
    """A private one."""
    with World() as world:
        yield world


def wait_for(world: World, state: str, bytes_min: int = 0) -> dict[str, Any]:
    """The one job, as soon as it is in that state and so far."""
    job: dict[str, Any] = {}
    with world.connect() as connection:
        connection.call("events.subscribe", {"topics": ["download"]})
        give_up_s = time.monotonic() + LIMIT_S
        while time.monotonic() < give_up_s:
            jobs = connection.call("download.list")["jobs"]
            job = jobs[0] if jobs else {}
            if job and job["state"] == state and job["bytes_done"] >= bytes_min:
                return job
            connection.take(LIMIT_S)
    raise AssertionError(f"no job is {state}: {job}")


def test_downloads_go_on_without_the_client_and_are_used_offline(
    world: World, tmp_path: Path
) -> None:
    folder = make_repo(tmp_path / "hub", SIZE)
    world.start_hub(tmp_path / "hub", rate_bps=2e6, cut_at=[])
    world.start_daemon()
    command = [sys.executable, "-m", "moshi_client", "download", REPO, "--file", WEIGHTS, "--wait"]
    client = subprocess.Popen(command, env=world.env, stderr=subprocess.DEVNULL)
    wait_for(world, "downloading", SIZE // 4)
    client.kill()
    client.wait()
    job = wait_for(world, "done")
    assert (job["bytes_done"], job["bytes_refetched"]) == (SIZE, 0)
    assert_in_cache(folder, world.hf_cache, WEIGHTS)
    assert world.stop_daemon() == 0
    world.env |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    world.start_daemon()
    again = world.call("download.start", {"repo": REPO, "files": [WEIGHTS], "wait": True})["job"]
    assert (again["state"], again["bytes_fetched"]) == ("done", 0)
    with pytest.raises(RemoteError) as refusal:
        world.call("download.start", {"repo": "org/other"})
    assert refusal.value.kind == "download.offline"
