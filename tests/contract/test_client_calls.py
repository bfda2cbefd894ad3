"""What the client asks for, the daemon understands: each command's calls against the method table.

The commands run in this process, with a fake daemon that refuses all but the greeting; the calls it
saw are converted by the daemon's own typed parameters.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

import moshid
from moshi_client import __version__, cli, targets, wire
from moshi_client.commands import events, talk
from moshid.downloads.profiles import PROFILES
from moshid.events import TOPICS
from moshid.model.catalogue import QUALITIES
from moshid.rpc.methods import all_methods
from tests.fakes.client_process import client_env, short_home
from tests.fakes.fake_daemon import FakeDaemon, Fault

METHODS = all_methods()
LINES = [
    "status",
    "ps",
    "ps --follow",
    "talk",
    "talk --model demo --quality q4 --input 3 --output Spk --in a --out b --fast --seconds 2.5 "
    "--engine echo --no-echo-cancel --seed 7 --text-temperature 0.5 --audio-temperature 0 --yes "
    "--record r",
    "download",
    "download demo --quality q8 --revision v --profile robust --chunk-size 8M --workers 3",
    "download a/b --file x --file y --detach",
    f"download http://h/f --sha256 {'a' * 64} --output o --profile robust --workers 2",
    "downloads",
    "downloads --follow",
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
    "unload",
    "bench --steps 7",
    "devices",
    "events",
    "methods",
    "help daemon.status",
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


def test_names_and_versions_are_the_daemons() -> None:
    assert set(events.DEFAULT_TOPICS) | set(talk.TOPICS) <= set(events.TOPICS)
    assert events.TOPICS == TOPICS
    assert set(targets.PROFILES) >= set(PROFILES)
    for profile in targets.PROFILES:
        METHODS["download.start"].convert({"profile": profile})
    assert set(targets.QUALITIES) == {"auto", *QUALITIES}
    assert moshid.MIN_PROTOCOL <= wire.PROTOCOL <= moshid.PROTOCOL
    assert __version__ == moshid.__version__
