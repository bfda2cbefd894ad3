"""The file of a URL through the real daemon and the real client, SIGKILL in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from moshi_client.errors import RemoteError
from moshid.demo.home import World
from tests.fakes.repos import content
from tests.fakes.web_files import WebFiles

SIZE = 24_000_000
FILE = content(SIZE)
RIGHT = sha256(FILE).hexdigest()
HELD_BYTES = 12_000_000
KILL_AT_BYTES = 7_000_000
LOST_BYTES_MAX = 6 << 20


@pytest.fixture
def world() -> Iterator[World]:
    """A daemon without any Hub."""
    with World() as world:
        world.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
        world.start_daemon()
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()


def client(world: World, *args: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON on stdout, stderr; run in the world's folder."""
    command = [sys.executable, "-m", "moshi_client", *args, "--json"]
    done = subprocess.run(
        command,
        cwd=world.folder,
        env=world.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def wait_for_bytes(world: World, count: int) -> None:
    """Return when the one job has brought so much."""
    with world.connect() as connection:
        connection.call("events.subscribe", {"topics": ["download"]})
        if connection.call("download.list")["jobs"][0]["bytes_done"] >= count:
            return
        for _, event in connection.follow():
            if ((event.get("data") or {}).get("job") or {}).get("bytes_done", 0) >= count:
                return


def test_killed_in_the_middle_it_goes_on_by_itself(world: World) -> None:
    output = world.folder / "voice.bin"
    with WebFiles(FILE, hold_after=HELD_BYTES) as web:
        line = ("download", web.url("/moved"), "--sha256", RIGHT, "--output", "voice.bin")
        flags = ("--chunk-size", "1M", "--workers", "3")
        code, started, err = client(world, *line, *flags, "--detach")
        assert (code, started["created"], err) == (0, True, "")
        wait_for_bytes(world, KILL_AT_BYTES)
        world.kill_daemon()
        assert not output.exists()
        web.go.set()
        world.start_daemon()
        code, done, err = client(world, *line)
        assert (code, err) == (0, "")
        job = done["job"]
        assert (job["id"], job["state"], done["created"]) == (started["job"]["id"], "done", False)
        assert (job["repo"], job["revision"], job["commit"]) == (web.url("/moved"), "", RIGHT)
        assert [f["path"] for f in job["files"]] == [str(output)]
        assert web.sent_bytes - SIZE < LOST_BYTES_MAX
        assert job["bytes_refetched"] < LOST_BYTES_MAX
        assert output.read_bytes() == FILE
        assert list(world.folder.glob(".voice*")) == []

        code, report, _ = client(world, "verify", web.url("/moved"))
        assert (code, report["ok"]) == (0, True)
        assert job["id"] in [j["id"] for j in client(world, "downloads")[1]["jobs"]]
        code, _, err = client(world, "cancel", job["id"])
        assert (code, json.loads(err)["error"]["kind"]) == (1, "download.wrong_state")
        code, models, _ = client(world, "models")
        assert code == 0
        assert web.url("/moved") not in [m["name"] for m in models["models"]]
        assert client(world, "models", "--prune", "--yes")[0] == 0
        assert output.exists()


def test_failures_have_their_exit_codes_and_kinds(world: World) -> None:
    (world.folder / "mine").write_text("mine")
    with WebFiles(b"file") as web:
        for url, output, kind in (
            (web.url("/none"), "f", "download.not_found"),
            (web.url(), "f", "download.digest_mismatch"),
            (web.url(), "mine", "download.bad_output"),
            (web.url(), "none/f", "download.bad_output"),
            ("http://me:pw@127.0.0.1/f", "f", "rpc.invalid_params"),
        ):
            code, _, err = client(world, "download", url, "--sha256", RIGHT, "--output", output)
            assert (code, json.loads(err)["error"]["kind"]) == (
                (2 if kind == "rpc.invalid_params" else 1),
                kind,
            )
    assert (world.folder / "mine").read_text() == "mine"


def test_two_outputs_of_one_url_are_told_apart(world: World) -> None:
    url = "http://127.0.0.1:9/f"
    for name in ("a", "b"):
        line = ("download", url, "--sha256", RIGHT, "--output", name, "--detach")
        assert client(world, *line)[0] == 0
    world.kill_daemon()
    world.start_daemon()
    jobs = client(world, "downloads")[1]["jobs"]
    assert [job["output"] for job in jobs] == [str(world.folder / name) for name in ("a", "b")]
    for command in ("pause", "cancel", "verify", "downloads"):
        code, _, err = client(world, command, url)
        assert (code, json.loads(err)["error"]["kind"]) == (2, "client.usage")
        assert all(job["id"] in err and job["output"] in err for job in jobs)
    assert client(world, "cancel", jobs[1]["id"])[0] == 0
    assert client(world, "cancel", url)[1]["job"]["id"] == jobs[0]["id"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"output": None}, "go together"),
        ({"url": None, "sha256": None}, "go together"),
        ({"model": "demo"}, "model"),
        ({"repo": "a/b"}, "repo"),
        ({"quality": "q4"}, "quality"),
        ({"revision": "main"}, "revision"),
        ({"files": ["x"]}, "files"),
        ({"sha256": "a" * 63}, "64 hex digits"),
        ({"url": "ftp://h/f"}, "http"),
        ({"output": "f"}, "absolute"),
    ],
)
def test_parameters_that_do_not_fit_are_named(
    one_world: World, more: dict[str, Any], why: str
) -> None:
    whole = {"url": "http://127.0.0.1:9/f", "sha256": RIGHT, "output": str(one_world.folder / "f")}
    with pytest.raises(RemoteError, match=why) as caught:
        one_world.call("download.start", whole | more)
    assert caught.value.data["kind"] == "rpc.invalid_params"


@pytest.fixture(scope="module")
def one_world() -> Iterator[World]:
    """A daemon that many tests share."""
    with World() as world:
        world.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
        world.start_daemon()
        yield world
        assert world.stop_daemon() == 0, world.daemon_log()
