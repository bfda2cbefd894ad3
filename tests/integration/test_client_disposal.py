"""``models --delete`` and ``--prune``: shown and agreed to, then done, against a fake daemon."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.client_process import run_client, short_home, start_client
from tests.fakes.fake_daemon import Call, FakeDaemon, Fault

Json = dict[str, Any]

COMMIT = "0123456789ab" + "c" * 28
REPORT: Json = {
    "deleted": [{"repo": "kyutai/x", "revision": COMMIT, "bytes": 4_800_000_000}],
    "files": [{"path": ".locks/moshid/ef.part", "bytes": 7_000}],
    "freed_bytes": 4_800_007_000,
}
NOTHING: Json = {"deleted": [], "files": [], "freed_bytes": 0, "dry_run": True}


def report(call: Call) -> Json:
    """What the daemon answers."""
    return REPORT | {"dry_run": call.params.get("dry_run", False)}


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home:
        replies = {"model.delete": report, "model.prune": report}
        with FakeDaemon(home / "moshid.sock", replies) as fake:
            yield fake


def answer(daemon: FakeDaemon, text: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a terminal on which ``text`` is typed."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, text.encode())
    try:
        with start_client(daemon.path.parent, *args, stdin=terminal) as process:
            out, err = process.communicate()
            return subprocess.CompletedProcess(args, process.returncode, out, err)
    finally:
        os.close(keyboard)
        os.close(terminal)


@pytest.mark.parametrize(
    ("args", "method", "params"),
    [
        (("--delete", "demo"), "model.delete", {"model": "demo"}),
        (("--delete", "a/b", "--quality", "q4"), "model.delete", {"model": "a/b", "quality": "q4"}),
        (("--prune",), "model.prune", {}),
    ],
)
def test_what_would_go_is_shown_and_agreed_to(
    daemon: FakeDaemon, args: tuple[str, ...], method: str, params: Json
) -> None:
    done = answer(daemon, "y\n", "models", *args)
    assert done.returncode == 0
    assert daemon.params_of(method) == [params | {"dry_run": True}, params]
    for part in ("kyutai/x", "0123456789ab", "4.8 GB", ".locks/moshid/ef.part", "7.0 kB"):
        assert part in done.stderr
    assert "Delete this, 4.8 GB in all? [y/N]" in done.stderr
    assert done.stdout == "deleted; 4.8 GB are free again\n"


@pytest.mark.parametrize("typed", ["n\n", "\n", "yess\n"])
def test_anything_but_yes_deletes_nothing(daemon: FakeDaemon, typed: str) -> None:
    done = answer(daemon, typed, "models", "--delete", "demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("nothing was deleted\n")
    assert daemon.params_of("model.delete") == [{"model": "demo", "dry_run": True}]


def test_json_is_never_asked(daemon: FakeDaemon) -> None:
    done = answer(daemon, "y\n", "models", "--prune", "--json")
    assert done.returncode == 2
    assert daemon.params_of("model.prune") == []


def test_yes_deletes_without_a_terminal(daemon: FakeDaemon) -> None:
    done = run_client(daemon.path.parent, "models", "--delete", "demo", "--yes", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == REPORT | {"dry_run": False}
    done = run_client(daemon.path.parent, "models", "--prune", "--yes")
    assert done.stdout == "deleted; 4.8 GB are free again\n"
    assert "?" not in done.stderr


def test_a_dry_run_deletes_nothing(daemon: FakeDaemon) -> None:
    for more in ((), ("--yes",)):
        done = run_client(daemon.path.parent, "models", "--prune", "--dry-run", "--json", *more)
        assert json.loads(done.stdout) == REPORT | {"dry_run": True}
    done = run_client(daemon.path.parent, "models", "--prune", "--dry-run")
    assert "4.8 GB" in done.stdout
    assert all(params["dry_run"] for params in daemon.params_of("model.prune"))


def test_nothing_to_delete_is_not_asked_about(daemon: FakeDaemon) -> None:
    daemon.replies["model.prune"] = NOTHING
    done = answer(daemon, "", "models", "--prune")
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing to delete\n", "")
    assert len(daemon.params_of("model.prune")) == 1


def test_a_model_in_use_is_refused(daemon: FakeDaemon) -> None:
    daemon.replies["model.delete"] = Fault("model.in_use", "it is loaded")
    done = run_client(daemon.path.parent, "models", "--delete", "demo", "--yes")
    assert done.returncode == 1
    assert done.stderr == "error: it is loaded\nhint: hint of model.in_use\n"


def test_followers_are_told_of_a_forgotten_job(daemon: FakeDaemon) -> None:
    job = {"id": "j-1", "repo": "kyutai/x", "state": "done"}
    with start_client(daemon.path.parent, "downloads", "--follow") as process:
        daemon.wait_for("events.subscribe")
        daemon.event("download", {"job": job, "forgotten": True})
        assert process.stdout is not None
        assert process.stdout.readline() == "kyutai/x: forgotten, its files are deleted\n"
        daemon.die()
        process.communicate()


def test_followers_are_told_of_a_job_that_became_part_of_another(daemon: FakeDaemon) -> None:
    job = {"id": "j-1", "repo": "kyutai/x", "state": "probing"}
    with start_client(daemon.path.parent, "downloads", "--follow") as process:
        daemon.wait_for("events.subscribe")
        daemon.event("download", {"job": job, "absorbed_by": "j-2"})
        assert process.stdout is not None
        assert process.stdout.readline() == "kyutai/x: job j-1 is part of job j-2 now\n"
        daemon.die()
        process.communicate()
