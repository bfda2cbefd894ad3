"""Downloads through the real daemon: what the client says of a repair; bad input of all kinds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from moshi_client.errors import RemoteError
from moshid.demo.home import World
from tests.fakes.repos import REPO, make_repo
from tests.integration.test_downloads_repair import flip_byte

WEIGHTS = "model.safetensors"
CHUNK = 65_536
SIZE = 20 * CHUNK + 1
LONG = "x" * 300_000
ODD_PATH = "/".join(["-d ü%20", "x" * 255, "..y" * 85, "--z?#.txt"])


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A daemon, a Hub, and the weights in the cache."""
    with World() as world:
        odd = make_repo(world.folder / "hub", SIZE) / ODD_PATH
        odd.parent.mkdir(parents=True)
        odd.write_text("odd")
        world.start_hub(world.folder / "hub", rate_bps=1e9, cut_at=[])
        world.start_daemon()
        start = {"repo": REPO, "files": [WEIGHTS], "chunk_bytes": CHUNK, "wait": True}
        assert world.call("download.start", start)["job"]["state"] == "done"
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()


def client(world: World, *args: str) -> tuple[int, str]:
    """Exit code and stdout."""
    command = [sys.executable, "-m", "moshi_client", *args]
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_one_flipped_byte_is_named_and_costs_one_chunk(world: World) -> None:
    (weights,) = world.hf_cache.glob(f"models--*/snapshots/*/{WEIGHTS}")
    right = weights.read_bytes()
    flip_byte(weights.resolve(), 7 * CHUNK + 5)
    code, said = client(world, "verify", REPO)
    assert code == 1
    assert "1 bad chunk: 7" in said
    code, said = client(world, "verify", REPO, "--repair")
    assert code == 0
    assert "ok, mended 1 chunk: 7" in said
    assert "repaired: 1 bad chunk, 65.5 kB fetched again" in said
    assert weights.read_bytes() == right


def test_a_path_may_be_long_and_odd(world: World) -> None:
    """Each of its names up to what a file system takes; the client passes all of it on."""
    code, said = client(world, "download", REPO, f"--file={ODD_PATH}")
    assert (code, "every digest right" in said) == (0, True)
    (snapshot,) = world.hf_cache.glob("models--*/snapshots/*")
    assert (snapshot / ODD_PATH).read_text() == "odd"


STARTS: list[dict[str, Any]] = [
    {"repo": ""},
    {"repo": 7},
    {"repo": None, "model": ["x"]},
    {"repo": LONG},
    {"repo": "org/\0x"},
    {"repo": "../../etc"},
    {"repo": "org/x/y/z"},
    {"repo": "org/x y"},
    {"repo": "ørg/ü"},
    {"repo": "-/-"},
    {"repo": REPO, "revision": ""},
    {"repo": REPO, "revision": "../x"},
    {"repo": REPO, "revision": "a\0b"},
    {"repo": REPO, "revision": "x\ny"},
    {"repo": REPO, "revision": " "},
    {"repo": REPO, "files": [""]},
    {"repo": REPO, "files": ["\0"]},
    {"repo": REPO, "files": ["../secret"]},
    {"repo": REPO, "files": ["/etc/passwd"]},
    {"repo": REPO, "files": ["a\\b"]},
    {"repo": REPO, "files": ["x\r\ny"]},
    {"repo": REPO, "files": ["a//b"]},
    {"repo": REPO, "files": "config.json"},
    {"repo": REPO, "files": [1]},
    {"repo": REPO, "files": {"a": 1}},
    {"repo": REPO, "files": [["a"]]},
    {"repo": REPO, "files": ["x"] * 20_000},
    {"repo": REPO, "chunk_bytes": 0},
    {"repo": REPO, "chunk_bytes": -1},
    {"repo": REPO, "chunk_bytes": 1},
    {"repo": REPO, "chunk_bytes": 1 << 70},
    {"repo": REPO, "chunk_bytes": 1.5},
    {"repo": REPO, "chunk_bytes": "8M"},
    {"repo": REPO, "chunk_bytes": True},
    {"repo": REPO, "workers": 0},
    {"repo": REPO, "workers": -3},
    {"repo": REPO, "workers": 10**9},
    {"repo": REPO, "workers": 10**40},
    {"repo": REPO, "workers": "many"},
    {"repo": REPO, "profile": "warp"},
    {"repo": REPO, "profile": ""},
    {"repo": REPO, "quality": "q2"},
    {"repo": REPO, "wait": "yes"},
    {"repo": REPO, "limit_bps": -1},
    {"repo": REPO, "priority": 3},
    {"repo": REPO, "from": ["relative"]},
    {"repo": REPO, "from": ["/no/such\0place"]},
    {"repo": REPO, "from": ["/no/such/place"]},
    {"repo": REPO, "unknown": 1},
    {"repo": REPO, "model": "demo"},
    {"url": "http://h/x", "sha256": "0" * 64, "output": "relative"},
    {"url": "http://h/x", "sha256": "z" * 64, "output": "/tmp/x"},
    {"url": "http://h/x", "sha256": "0" * 64, "output": "/tmp/\0"},
    {"url": "http://h/x", "sha256": "0" * 64, "output": "/"},
    {"url": "http://[::1", "sha256": "0" * 64, "output": "/tmp/x"},
    {"url": "file:///etc/passwd", "sha256": "0" * 64, "output": "/tmp/x"},
    {"url": "http://h:99999/x", "sha256": "0" * 64, "output": "/tmp/x"},
    {"url": "http://" + LONG, "sha256": "0" * 64, "output": "/tmp/x"},
]


def kind(world: World, method: str, params: dict[str, Any]) -> str:
    """The kind of the refusal; it has to be one, and no fault of the daemon's own."""
    with pytest.raises(RemoteError) as caught:
        world.call(method, params)
    return str(caught.value.kind)


@pytest.mark.parametrize("params", STARTS, ids=lambda p: str(p)[:60].replace("\0", "NUL"))
def test_a_bad_start_is_refused_by_a_kind(world: World, params: dict[str, Any]) -> None:
    assert kind(world, "download.start", params) in {
        "rpc.invalid_request",
        "rpc.invalid_params",
        "model.not_found",
        "download.not_found",
        "download.error",
        "download.bad_output",
    }
    assert len(world.call("download.list")["jobs"]) == 1


@pytest.mark.parametrize("method", ["get", "pause", "resume", "cancel", "verify"])
@pytest.mark.parametrize("name", ["", 7, None, "\0", "no/such", "nosuch", "../..", "x" * 5000, []])
def test_a_bad_name_is_refused_by_a_kind(world: World, method: str, name: Any) -> None:
    if method == "verify" and name is None:
        return
    assert kind(world, f"download.{method}", {"id": name}) in {
        "rpc.invalid_params",
        "model.not_found",
        "download.no_such_job",
        "download.wrong_state",
    }


@pytest.mark.parametrize("method", ["get", "pause", "resume", "cancel", "verify", "set"])
@pytest.mark.parametrize("name", ["0123abcd", "no/such", "demu", "https://h/f"])
def test_what_is_nobodys_is_no_such_job(world: World, method: str, name: str) -> None:
    assert kind(world, f"download.{method}", {"id": name}) == "download.no_such_job"


def test_what_may_be_given_for_a_job_is_told(world: World) -> None:
    with pytest.raises(RemoteError) as caught:
        world.call("download.get", {"id": "demu"})
    assert caught.value.message == "there is no download 'demu', nor a model of that name"
    assert "a job's id, its model, its repository" in str(caught.value.hint)
    assert caught.value.data["suggestions"] == ["demo"]
    assert kind(world, "download.verify", {"model": "demu"}) == "model.not_found"


@pytest.mark.parametrize("name", ["12345678", "1234e5"])
def test_a_call_with_an_id_of_digits_is_understood(world: World, name: str) -> None:
    """As job ids were that an older daemon gave."""
    command = [sys.executable, "-m", "moshi_client", "call", "download.get", f"id={name}"]
    done = subprocess.run(command, env=world.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: there is no download '{name}', nor a model")
    number = [*command[:4], "model.bench", "steps=3"]
    done = subprocess.run(number, env=world.env, capture_output=True, text=True, check=False)
    assert "no model is ready" in done.stderr, "a number stays one"
