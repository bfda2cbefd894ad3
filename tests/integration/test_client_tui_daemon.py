"""``tui`` beside the real daemon: downloads by keys, a talk, a daemon that is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moshid.demo import checkpoint
from moshid.demo.home import World
from tests.fakes.tui_screen import TuiScreen


@pytest.fixture(scope="module")
def world(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A daemon and a Hub that has the demo model."""
    place = tmp_path_factory.mktemp("hub") / checkpoint.REPO
    place.parent.mkdir(parents=True)
    place.symlink_to(demo_checkpoint)
    with World() as world:
        world.start_hub(place.parent.parent, rate_bps=1e9, cut_at=[])
        world.start_daemon()
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()


def state_of(world: World, job_id: str) -> str:
    return str(world.call("download.get", {"id": job_id})["job"]["state"])


def test_a_download_is_paused_resumed_and_cancelled_by_keys(world: World) -> None:
    with TuiScreen(world.env) as tui:
        tui.wait_for("no downloads")
        params = {"model": "demo", "limit_bps": 200_000}
        job_id = world.call("download.start", params)["job"]["id"]
        tui.wait_for("demo-parrot-mlx", "downloading", "kB/s", "ETA", "connection")
        tui.press("d")
        tui.wait_for("paused")
        assert state_of(world, job_id) == "paused"
        tui.press("d")
        tui.wait_for("downloading")
        tui.press("x")
        tui.wait_for("Cancel the download of")
        tui.press("y")
        tui.wait_for("cancelled")
        assert state_of(world, job_id) == "cancelled"
        world.call("download.set", {"id": job_id, "limit_bps": None})


def test_t_fetches_loads_and_talks_and_the_words_appear(world: World, tmp_path: Path) -> None:
    files = ("--in", str(checkpoint.speech_wav()), "--out", str(tmp_path / "out.wav"), "--fast")
    with TuiScreen(world.env, "--model", "demo", "--seed", "1", *files) as tui:
        tui.wait_for("t starts one")
        tui.press("t")
        tui.wait_for("demo bf16", "step", "the last talk: input end", "  0:0")
        transcript = "".join(
            line[7:] for line in tui.text.splitlines() if line.startswith(("  0:0", "  0:1"))
        )
        assert len(transcript) > 20
        assert world.call("talk.status")["session"] is None
        tui.press("q")
        assert tui.wait_exit() == 0


def test_a_talk_of_ours_ends_with_us(world: World, tmp_path: Path) -> None:
    files = ("--in", str(checkpoint.speech_wav()), "--out", str(tmp_path / "out.wav"))
    with TuiScreen(world.env, "--engine", "echo", *files) as tui:
        tui.wait_for("t starts one")
        tui.press("t")
        tui.wait_for("sound check", "listening", " dB")
        tui.press("q")
        tui.wait_for("Quit?")
        tui.press("y")
        assert tui.wait_exit() == 0
    with TuiScreen(world.env) as tui:
        tui.wait_for("t starts one")


def test_a_daemon_that_is_killed_is_found_again(world: World) -> None:
    with TuiScreen(world.env) as tui:
        tui.wait_for("● connected")
        world.kill_daemon()
        tui.wait_for("the daemon is away: trying again")
        world.start_daemon()
        tui.wait_for("● connected", "the daemon is back", f"pid {world.daemon_pid}")
        tui.press("q")
        assert tui.wait_exit() == 0
