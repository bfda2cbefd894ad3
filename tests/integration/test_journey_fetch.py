"""A talk with a model that is not on disk yet: fetched if asked to, asked about if it is big."""

from __future__ import annotations

from pathlib import Path

import pytest

from moshi_client.errors import RemoteError
from moshid.demo import checkpoint
from moshid.demo.home import World
from moshid.demo.watch import Watch
from tests.fakes.talks import LIMIT_S, TALK, kind_of, stopped, talk_to_its_end


@pytest.fixture
def hub_root(demo_checkpoint: Path, tmp_path: Path) -> Path:
    """A Hub's folder that holds the demo checkpoint."""
    place = tmp_path / "hub" / checkpoint.REPO
    place.parent.mkdir(parents=True)
    place.symlink_to(demo_checkpoint)
    return tmp_path / "hub"


def test_talk_fetches_what_is_missing_if_asked_to(hub_root: Path, tmp_path: Path) -> None:
    files = {"in_file": str(checkpoint.speech_wav()), "out_file": str(tmp_path / "o.wav")}
    with World() as world:
        world.start_hub(hub_root, rate_bps=1e9, cut_at=[])
        world.start_daemon()
        assert kind_of(world, "talk.start", model="demo", **files) == "model.not_found"
        status = talk_to_its_end(world, ensure=True, fast=True, **files)
        assert (status["state"], status["reason"]) == ("stopped", "input_end")


def test_a_repository_of_unknown_size_is_asked_about_when_it_is_known(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    place = tmp_path / "hub" / "someone" / "parrot"
    place.parent.mkdir(parents=True)
    place.symlink_to(demo_checkpoint)
    params = {
        "model": "someone/parrot",
        "in_file": str(checkpoint.speech_wav()),
        "out_file": str(tmp_path / "o.wav"),
        "fast": True,
        "ensure": True,
    }
    with World() as world:
        world.start_hub(tmp_path / "hub", rate_bps=1e9, cut_at=[])
        world.start_daemon("--set", "talk_confirm_bytes=1000000")
        with pytest.raises(RemoteError) as caught:
            world.call("talk.start", params)
        assert caught.value.kind == "talk.confirm_download"
        assert caught.value.data["size_bytes"] > 90_000_000
        (job,) = world.call("download.list")["jobs"]
        assert job["state"] == "paused"
        with world.connect() as owner, Watch(world, TALK) as watch:
            owner.call("talk.start", {**params, "confirm": True})
            watch.wait_for(stopped, "the talk's end", LIMIT_S)
            assert watch.data("talk")[-1]["status"]["reason"] == "input_end"
        (model,) = [m for m in world.call("model.list")["models"] if m["name"] == "someone/parrot"]
        assert (model["on_disk"], model["loaded"]) == (True, True)


def test_a_talk_of_a_big_model_asks_first(hub_root: Path) -> None:
    with World() as world:
        world.start_hub(hub_root, rate_bps=1e9, cut_at=[])
        world.start_daemon()
        with pytest.raises(RemoteError) as caught:
            world.call("talk.start", {"model": "moshiko", "quality": "bf16", "ensure": True})
        assert caught.value.kind == "talk.confirm_download"
        assert caught.value.data["size_bytes"] == 15_375_697_208
        assert "moshi-client download moshiko --quality bf16." in str(caught.value.hint)
        assert world.call("download.list")["jobs"] == []


def test_a_talk_without_its_microphone_fetches_nothing(hub_root: Path) -> None:
    with World() as world:
        world.start_hub(hub_root, rate_bps=1e9, cut_at=[])
        world.start_daemon()
        with pytest.raises(RemoteError) as caught:
            world.call("talk.start", {"model": "demo", "ensure": True, "input": 99})
        assert caught.value.kind == "audio.no_device"
        assert world.call("download.list")["jobs"] == []


def test_a_damaged_config_is_named_and_mended_by_the_models_name(hub_root: Path) -> None:
    """It says where the weights are; without it a model may not be out of reach of its repair."""
    with World() as world:
        world.start_hub(hub_root, rate_bps=1e9, cut_at=[])
        world.start_daemon()
        world.call("download.start", {"model": "demo", "wait": True})
        (config,) = world.hf_cache.glob(f"models--*/snapshots/*/{checkpoint.CONFIG_NAME}")
        config.resolve().write_bytes(b"{" * config.stat().st_size)
        assert kind_of(world, "model.load", model="demo") == "model.bad_checkpoint"
        (demo,) = [m for m in world.call("model.list")["models"] if m["name"] == "demo"]
        assert demo["on_disk"]
        report = world.call("download.verify", {"model": "demo"})
        assert [f["path"] for f in report["files"] if not f["ok"]] == [checkpoint.CONFIG_NAME]
        assert world.call("download.verify", {"model": "demo", "repair": True})["ok"]
        assert world.call("model.load", {"model": "demo"})["state"] == "ready"
