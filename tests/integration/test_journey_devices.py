"""A conversation with the demo model outlives its sound server, through the real daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from moshid.demo import checkpoint
from moshid.demo.home import World
from moshid.demo.probe import JackProbe
from moshid.demo.sound import JackServer
from moshid.demo.watch import Watch
from tests.fakes.audio_rig import make_speech

LIMIT_S = 60.0
TALK = ["talk", "talk.level", "model"]
JACK = {"input": "system, JACK", "output": "system, JACK"}


def is_state(state: str) -> Any:
    """Whether a talk event says so."""
    return lambda topic, data: topic == "talk" and data.get("state") == state


def test_jack_is_killed_in_a_talk_and_the_conversation_goes_on(
    demo_checkpoint: Path, tmp_path: Path
) -> None:
    place = tmp_path / "hub" / checkpoint.REPO
    place.parent.mkdir(parents=True)
    place.symlink_to(demo_checkpoint)
    spoken = soundfile.read(make_speech(tmp_path / "speech.wav"), dtype="float32")[0]
    with JackServer(tmp_path) as server, World() as world:
        world.start_hub(tmp_path / "hub", rate_bps=1e9, cut_at=[])
        world.env |= server.environment
        world.start_daemon()
        world.call("download.start", {"model": "demo", "wait": True})
        world.call("model.load", {"model": "demo"})
        with world.connect() as owner, Watch(world, TALK) as watch:
            owner.call("talk.start", {"model": "demo", "seed": 1, **JACK})
            watch.wait_for(lambda topic, _data: topic == "talk.level", "sound", LIMIT_S)
            server.kill()
            watch.wait_for(is_state("recovering"), "recovering", LIMIT_S)
            server.start_again()
            watch.wait_for(lambda _topic, data: data.get("change") == "back", "it", LIMIT_S)
            with JackProbe(server) as probe:
                probe.attach()
                probe.play(spoken, tail_s=2.0)
                heard = probe.wait(LIMIT_S)
            final = owner.call("talk.stop", {})
        changes = [
            (d["direction"], d["change"]) for d in watch.data("talk") if d.get("event") == "device"
        ]
        models = [d["status"]["state"] for d in watch.data("model")]
        assert world.stop_daemon() == 0, world.daemon_log()
    assert {change for _, change in changes} == {"lost", "back"}
    assert "loading" not in models, "the model went on with its context"
    assert np.abs(heard).max() > 0.1 * np.abs(spoken).max(), "it repeats what it hears"
    assert (final["state"], final["error"]) == ("stopped", None)
    assert final["lagged_frames"] > 0
