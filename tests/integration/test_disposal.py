"""Disk space back through the real daemon and the real client, with the demo model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moshi_client.errors import RemoteError
from moshid.demo import checkpoint
from moshid.demo.home import World


@pytest.fixture
def world(demo_checkpoint: Path, tmp_path: Path) -> Iterator[World]:
    """A daemon with the demo model on disk and in memory."""
    place = tmp_path / checkpoint.REPO
    place.parent.mkdir(parents=True)
    place.symlink_to(demo_checkpoint)
    with World() as world:
        world.start_hub(tmp_path, rate_bps=1e9, cut_at=[])
        world.start_daemon()
        world.call("download.start", {"model": "demo", "wait": True})
        world.call("model.load", {"model": "demo"})
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()


def client(world: World, *args: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON on stdout, stderr."""
    command = [sys.executable, "-m", "moshi_client", *args, "--json"]
    done = subprocess.run(
        command, env=world.env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def test_the_demo_model_is_deleted_when_it_is_not_in_use(world: World) -> None:
    (repo_dir,) = world.hf_cache.glob("models--*")
    weights = Path(world.call("model.status")["weights"])
    assert repo_dir in weights.parents
    code, _, err = client(world, "models", "--delete", "demo", "--yes")
    assert (code, json.loads(err)["error"]["kind"]) == (1, "model.in_use")
    assert world.call("model.bench", {"steps": 2})["steps"] == 2

    world.call("model.unload")
    (job,) = world.call("download.list")["jobs"]
    code, would, _ = client(world, "models", "--delete", "demo", "--dry-run")
    assert (code, would["dry_run"], repo_dir.exists()) == (0, True, True)
    assert would["freed_bytes"] >= job["bytes_total"] > 90_000_000
    assert [d["repo"] for d in would["deleted"]] == [checkpoint.REPO]
    assert client(world, "models", "--delete", "demo")[0] == 2
    assert weights.exists()

    code, report, err = client(world, "models", "--delete", "demo", "--yes")
    assert (code, err) == (0, "")
    assert report == would | {"dry_run": False}
    assert not repo_dir.exists()
    assert world.call("download.list")["jobs"] == []
    (demo,) = [m for m in world.call("model.list")["models"] if m["name"] == "demo"]
    assert (demo["on_disk"], demo["disk_bytes"]) == (False, 0)
    code, _, err = client(world, "models", "--delete", "demo", "--yes")
    assert (code, json.loads(err)["error"]["kind"]) == (1, "model.not_found")

    again = world.call("download.start", {"model": "demo", "wait": True})["job"]
    assert (again["state"], again["bytes_fetched"]) == ("done", job["bytes_total"])
    assert world.call("model.load", {"model": "demo"})["state"] == "ready"


def test_a_quality_is_deleted_only_by_itself(world: World) -> None:
    for params, kind in (
        ({"model": "demo", "quality": "q4"}, "model.not_found"),
        ({"model": "moshid/demo-parrot-mlx", "quality": "bf16"}, "model.in_use"),
        ({"model": "nonsense"}, "model.not_found"),
    ):
        with pytest.raises(RemoteError) as caught:
            world.call("model.delete", params)
        assert caught.value.kind == kind
    world.call("model.unload")
    (weights,) = world.hf_cache.glob(f"models--*/snapshots/*/{checkpoint.WEIGHTS_NAME}")
    weights.with_name("model.q4.safetensors").symlink_to(weights.readlink())
    with pytest.raises(RemoteError, match="holds bf16 and q4"):
        world.call("model.delete", {"model": "demo", "quality": "bf16"})


def test_a_quality_that_is_not_on_disk_is_told_beside_one_that_is(world: World) -> None:
    repo = world.hf_cache / "models--kyutai--moshiko-mlx-q8"
    (snapshot := repo / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (snapshot / "model.q8.safetensors").touch()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(snapshot.name)
    for command in (("load", "moshiko"), ("models", "--delete", "moshiko", "--dry-run")):
        code, _, err = client(world, *command, "--quality", "q4")
        error = json.loads(err)["error"]
        assert (code, error["kind"]) == (1, "model.not_found")
        assert error["message"] == "moshiko is on disk as q8, not as q4"
        fetch = "Fetch it: moshi-client download moshiko --quality q4."
        assert error["hint"] == (
            fetch if "load" in command else "List what is: moshi-client models."
        )


def quantised(world: World) -> list[dict[str, Any]]:
    """What the daemon says of the demo's copies."""
    (demo,) = [m for m in world.call("model.list")["models"] if m["name"] == "demo"]
    found: list[dict[str, Any]] = demo["quantised"]
    return found


def load_q4(world: World) -> Path:
    """Load the demo as q4, and wait until its copy is kept."""
    world.call("model.unload")
    done = subprocess.Popen(
        [sys.executable, "-m", "moshi_client", "events", "model", "--json"],
        env=world.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    with done:
        assert done.stdout is not None
        json.loads(done.stdout.readline())
        world.call("model.load", {"model": "demo", "quality": "q4"})
        events = map(json.loads, done.stdout)
        kept = next(e["data"] for e in events if e.get("data", {}).get("event") == "quantised")
        done.terminate()
    return Path(kept["path"])


def test_quantised_copies_are_listed_and_go_when_they_are_asked_to(world: World) -> None:
    copy = load_q4(world)
    assert copy.parent == world.hf_cache.with_name(f"{world.hf_cache.name}.moshid-quantised")
    size = copy.stat().st_size
    assert quantised(world) == [{"quality": "q4", "bytes": size, "path": str(copy)}]
    status = world.call("model.status")
    assert (status["quality"], status["why"]) == ("q4", "q4 was asked for")
    code, listed, _ = client(world, "models")
    (demo,) = [m for m in listed["models"] if m["name"] == "demo"]
    assert (code, demo["auto"]["quality"]) == (0, "bf16")
    assert "bf16 is the best on disk that suits this machine" in demo["auto"]["why"]

    assert client(world, "models", "--prune", "--yes")[1]["files"] == [], "it is of use"
    code, would, _ = client(world, "models", "--delete", "demo", "--quality", "q4", "--dry-run")
    assert (code, would["files"]) == (0, [{"path": str(copy), "bytes": size}])
    assert (would["deleted"], would["freed_bytes"]) == ([], size)
    assert copy.exists()
    code, report, _ = client(world, "models", "--delete", "demo", "--quality", "q4", "--yes")
    assert (code, report) == (0, would | {"dry_run": False})
    assert not copy.exists()
    assert quantised(world) == []
    assert world.call("model.bench", {"steps": 2})["steps"] == 2, "it is in memory all the same"


def test_copies_go_with_their_model_and_when_it_is_gone(world: World) -> None:
    copy = load_q4(world)
    world.call("model.unload")
    (copy.parent / "x.safetensors.1.new").write_bytes(b"half")
    (weights,) = world.hf_cache.glob(f"models--*/snapshots/*/{checkpoint.WEIGHTS_NAME}")
    code, report, _ = client(world, "models", "--prune", "--yes")
    assert (code, [Path(f["path"]).name for f in report["files"]]) == (0, ["x.safetensors.1.new"])
    code, report, _ = client(world, "models", "--delete", "demo", "--yes")
    assert (code, [f["path"] for f in report["files"]]) == (0, [str(copy)])
    assert not copy.exists()
    world.call("download.start", {"model": "demo", "wait": True})
    copy = load_q4(world)
    world.call("model.unload")
    weights.resolve().unlink()
    code, report, _ = client(world, "models", "--prune", "--yes")
    assert (code, [f["path"] for f in report["files"]]) == (0, [str(copy)])
    assert not copy.exists()


def test_prune_leaves_what_is_loaded_and_takes_what_is_left_over(world: World) -> None:
    (snapshot,) = world.hf_cache.glob("models--*/snapshots/*")
    ref = snapshot.parents[1] / "refs" / "main"
    newer = snapshot.with_name("b" * 40)
    newer.mkdir()
    (newer / checkpoint.CONFIG_NAME).symlink_to((snapshot / checkpoint.CONFIG_NAME).readlink())
    ref.write_text(newer.name)
    code, report, _ = client(world, "models", "--prune", "--yes")
    assert (code, report["deleted"]) == (0, [])
    world.call("model.unload")
    code, report, _ = client(world, "models", "--prune", "--yes")
    assert [d["revision"] for d in report["deleted"]] == [snapshot.name]
    assert report["freed_bytes"] > 90_000_000
    assert not snapshot.exists()
    assert (newer / checkpoint.CONFIG_NAME).exists()
    assert world.call("download.list")["jobs"] == []


def test_prune_takes_a_copy_whose_qualitys_own_file_came(world: World) -> None:
    copy = load_q4(world)
    world.call("model.unload")
    assert client(world, "models", "--prune", "--yes")[1]["files"] == [], "it is of use"
    (weights,) = world.hf_cache.glob(f"models--*/snapshots/*/{checkpoint.WEIGHTS_NAME}")
    own = weights.with_name("model.q4.safetensors")
    own.write_bytes(copy.read_bytes())
    assert world.call("model.load", {"model": "demo", "quality": "q4"})["weights"] == str(own)
    world.call("model.unload")
    code, report, _ = client(world, "models", "--prune", "--yes")
    assert (code, [f["path"] for f in report["files"]]) == (0, [str(copy)])
    assert own.exists()
    assert not copy.exists()
