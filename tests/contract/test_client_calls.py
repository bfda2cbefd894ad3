"""What the client asks for, the daemon understands: each command's calls against the method table.

The commands run in this process, with a fake daemon that refuses all but the greeting; the calls it
saw are converted by the daemon's own typed parameters.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest

import moshid
from moshi_client import __version__, cli, limits, targets, wire
from moshi_client.commands import events, talk
from moshi_client.completions import lookup
from moshi_client.tui import act, state
from moshi_client.tui.state import Call, State
from moshid.downloads.profiles import PROFILES
from moshid.downloads.terms import Priority
from moshid.errors import InvalidParams
from moshid.events import TOPICS
from moshid.model.catalogue import QUALITIES
from moshid.rpc.methods import all_methods
from tests.fakes.client_process import client_env, short_home
from tests.fakes.fake_daemon import FakeDaemon, Fault
from tests.fakes.tui_states import job, listening

METHODS = all_methods()
LINES = [
    "status",
    "ps",
    "ps --follow",
    "talk",
    "talk --model demo --quality q4 --input 3 --output Spk --in a --out b --fast --seconds 2.5 "
    "--engine echo --no-echo-cancel --seed 7 --text-temperature 0.5 --audio-temperature 0 --yes "
    "--record r",
    "talk --echo-cancel --noise-suppression --auto-gain",
    "talk --text-top-k 0 --text-top-p 0.9 --audio-top-k 100 --audio-top-p 0.8 "
    "--text-repetition-penalty 1.2 --text-repetition-window 30 --keep-alive 10m",
    "download",
    "download demo --quality q8 --revision v --profile robust --chunk-size 8M --workers 3",
    "download a/b --file x --file y --detach",
    f"download http://h/f --sha256 {'a' * 64} --output o --profile robust --workers 2",
    "downloads",
    "downloads --follow",
    "downloads j",
    "downloads j --priority high --limit 1M",
    "downloads j --limit off --follow",
    "downloads --limit 2M --schedule 22:00-07:00 --metered on",
    "downloads --limit off --schedule off --metered off",
    "download demo --priority low --limit 1.5MB/s --detach",
    "download demo --limit off",
    "pause j",
    "resume j",
    "cancel j",
    "verify demo",
    "verify a/b --repair",
    "models",
    "models --delete demo --quality q4 --yes",
    "models --delete a/b --dry-run",
    "models --prune --yes",
    "load",
    "load demo --quality bf16 --detach",
    "load demo --keep-alive forever",
    "unload",
    "bench --steps 7",
    "bench --compare --trace t.json",
    "devices",
    "events",
    "doctor",
    "call talk.set muted=true volume=0.5 paused=false",
    "methods",
    "help daemon.status",
    "tui --json",
    "stop",
]


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    refusal = Fault("daemon.shutting_down", "not now")
    with short_home() as home:
        replies = {name: refusal for name in METHODS if name != "daemon.hello"}
        fake = FakeDaemon(home / "moshid.sock")
        fake.replies = {"events.subscribe": {"snapshot": {}}, **replies, **fake.replies}
        with fake:
            yield fake


@pytest.mark.parametrize("line", LINES)
def test_every_call_of_a_command_is_understood(daemon: FakeDaemon, line: str) -> None:
    daemon.calls.clear()
    following = line.endswith("--follow") or line == "events"
    if following:
        daemon.replies["events.subscribe"] = Fault("daemon.shutting_down", "not now")
    else:
        daemon.replies["events.subscribe"] = {"snapshot": {}}
    env = client_env(daemon.path.parent)
    code = cli.main(line.split(), env, io.StringIO(), io.StringIO())
    assert code == 1
    methods = [method for method, _ in daemon.calls]
    assert methods[0] == "daemon.hello"
    assert len(methods) > 1
    for method, params in daemon.calls:
        METHODS[method].convert(params)


def test_every_call_of_a_key_of_the_screen_is_understood() -> None:
    paused = replace(listening(), jobs=(job(state="paused"),))
    states = (State(talk_params={"ensure": True}), listening(), paused)
    calls: dict[str, list[Call]] = {}
    for known in states:
        for key in ("t", "s", "m", "p", "+", "-", "o", "space", "d", "x"):
            asked, effects = act.pressed(known, key, 0.0)
            effects += asked.question.effects if asked.question else ()
            for call in effects:
                if isinstance(call, Call):
                    calls.setdefault(call.method, []).append(call)
    assert set(calls) == {
        *("talk.start", "talk.stop", "talk.set"),
        *("download.pause", "download.resume", "download.cancel"),
    }
    for method in calls.keys() & METHODS.keys():
        for call in calls[method]:
            METHODS[method].convert(call.params)
    assert calls.keys() - METHODS.keys() == set()


def test_what_completions_ask_for_is_there() -> None:
    asked = set(lookup._METHODS.values())
    assert asked <= METHODS.keys()
    for method in asked:
        METHODS[method].convert({})  # raises when it cannot do without parameters


def test_a_seed_that_the_client_takes_is_one_for_the_daemon() -> None:
    METHODS["talk.start"].convert({"seed": targets.SEEDS - 1})
    with pytest.raises(InvalidParams):
        METHODS["talk.start"].convert({"seed": targets.SEEDS})


def test_names_and_versions_are_the_daemons() -> None:
    assert set(events.DEFAULT_TOPICS) | set(talk.TOPICS) <= set(events.TOPICS)
    assert events.TOPICS == TOPICS
    assert set(state.TOPICS) == set(TOPICS)
    assert set(targets.PROFILES) >= set(PROFILES)
    for profile in targets.PROFILES:
        METHODS["download.start"].convert({"profile": profile})
    assert tuple(Priority) == limits.PRIORITIES
    assert set(targets.QUALITIES) == {"auto", *QUALITIES}
    assert moshid.MIN_PROTOCOL <= wire.PROTOCOL <= moshid.PROTOCOL
    assert __version__ == moshid.__version__
