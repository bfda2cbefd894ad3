"""``download``: progress, the daemon's death on the way, detaching, and how it ends."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.client_process import run_client, short_home, start_client
from tests.fakes.fake_daemon import Call, FakeDaemon, Fault

Json = dict[str, Any]


def job(state: str = "downloading", done: int = 0, **more: Any) -> Json:
    return {
        "id": "job-1",
        "repo": "moshid/demo",
        "state": state,
        "files": [{"path": "w"}],
        "bytes_total": 1_000_000,
        "bytes_done": done,
        "bytes_fetched": done,
        "bytes_refetched": 0,
        "rate_bps": 1e5,
        "eta_s": 5,
        "error": None,
        **more,
    }


DONE = job("done", 1_000_000)


def starts(*events: Json) -> Any:
    """A reply to download.start that then sends ``events``."""

    def reply(call: Call) -> Json:
        for event in events:
            call.event("download", {"job": event})
        return {"job": job(), "created": True}

    return reply


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock") as fake:
        yield fake


def test_waits_and_shows_progress(daemon: FakeDaemon) -> None:
    other = job("downloading", 999_999) | {"id": "job-2", "repo": "other/repo"}
    daemon.replies["download.start"] = starts(other, job(done=500_000), DONE)
    done = run_client(daemon.path.parent, "download", "demo")
    assert done.returncode == 0
    assert daemon.params_of("download.start") == [{"model": "demo"}]
    assert "50.0 %  500 kB of 1.0 MB  100 kB/s  ETA 0:05" in done.stderr
    assert "other/repo" not in done.stderr
    assert done.stdout.startswith("moshid/demo: done, 1.0 MB in 1 file, every digest right")


def test_events_that_come_before_the_reply_are_not_lost(daemon: FakeDaemon) -> None:
    def reply(call: Call) -> Json:
        call.event("download", {"job": DONE})
        return {"job": job("queued"), "created": True}

    daemon.replies["download.start"] = reply
    assert run_client(daemon.path.parent, "download", "demo").returncode == 0


def test_every_flag_goes_to_the_daemon(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = {"job": DONE, "created": False}
    flags = (
        "--quality q8 --file a.json --file b.bin --revision v1 --profile robust "
        "--chunk-size 8M --workers 3 --from x --from /y --wait --json"
    )
    done = run_client(daemon.path.parent, "download", "a/b", *flags.split())
    assert json.loads(done.stdout) == {"job": DONE, "created": False}
    assert done.stderr == ""
    assert daemon.params_of("download.start") == [
        {
            "repo": "a/b",
            "quality": "q8",
            "files": ["a.json", "b.bin"],
            "revision": "v1",
            "profile": "robust",
            "chunk_bytes": 8 << 20,
            "workers": 3,
            "from": [f"{Path.cwd()}/x", "/y"],
        }
    ]


def test_a_url_goes_with_its_digest_and_an_absolute_output(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = {"job": DONE, "created": False}
    url, here = "https://host/a/f.bin?x=%2B", Path.cwd()
    flags = f"--sha256 {'aB' * 32} --chunk-size 1M --workers 2".split()
    for output, sent in (("a/f.bin", f"{here}/a/f.bin"), ("/b/f", "/b/f"), ("~/f", "/home/f")):
        args = ("download", url, "--output", output, *flags)
        assert run_client(daemon.path.parent, *args, HOME="/home").returncode == 0
        params = daemon.params_of("download.start")[-1]
        assert params == {
            "url": url,
            "sha256": "aB" * 32,
            "output": sent,
            "chunk_bytes": 1 << 20,
            "workers": 2,
        }


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("https://h/f", "--sha256 HEX and --output PATH"),
        ("https://h/f --output f", "--sha256 HEX and --output PATH"),
        (f"https://h/f --sha256 {'a' * 64}", "--sha256 HEX and --output PATH"),
        ("https://h/f --sha256 abc --output f", "64 hex digits"),
        (f"demo --sha256 {'a' * 64}", "--sha256 belongs to a URL"),
        ("--output f", "--output belongs to a URL"),
        (
            f"https://h/f --sha256 {'a' * 64} --output f --quality q4",
            "--quality belongs to a model",
        ),
        (f"https://h/f --sha256 {'a' * 64} --output f --file x", "--file belongs to a model"),
    ],
)
def test_half_a_url_is_a_usage_error(daemon: FakeDaemon, line: str, why: str) -> None:
    done = run_client(daemon.path.parent, "download", *line.split())
    assert done.returncode == 2
    assert why in done.stderr
    assert daemon.params_of("download.start") == []


def test_detach_returns_at_once(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = {"job": job("queued"), "created": True}
    done = run_client(daemon.path.parent, "download", "demo", "--detach")
    assert (done.returncode, done.stdout) == (0, "moshid/demo: queued, job job-1\n")
    assert daemon.params_of("events.subscribe") == []


def test_follow_prints_one_job_a_line(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = starts(job(done=500_000), DONE)
    done = run_client(daemon.path.parent, "download", "demo", "--json", "--follow")
    jobs = [json.loads(line)["job"] for line in done.stdout.splitlines()]
    assert [(j["state"], j["bytes_done"]) for j in jobs] == [
        ("downloading", 0),
        ("downloading", 500_000),
        ("done", 1_000_000),
    ]


def test_failure_is_the_jobs_error(daemon: FakeDaemon) -> None:
    error = {"kind": "download.gated", "message": "accept first", "hint": "log in", "retryable": 0}
    daemon.replies["download.start"] = starts(job("failed", error=error))
    done = run_client(daemon.path.parent, "download", "demo")
    assert done.returncode == 1
    assert "error: moshid/demo: accept first\nhint: log in\n" in done.stderr
    done = run_client(daemon.path.parent, "download", "demo", "--json")
    assert json.loads(done.stderr)["error"]["kind"] == "download.gated"
    assert done.stdout == ""


def test_cancelled_elsewhere_is_a_failure(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = starts(job("cancelled"))
    done = run_client(daemon.path.parent, "download", "demo")
    assert done.returncode == 1
    assert "cancelled" in done.stderr


def test_a_paused_job_is_waited_for_and_says_why(daemon: FakeDaemon) -> None:
    paused = job("paused", 10, error={"kind": "download.disk_full", "message": "no room"})
    daemon.replies["download.start"] = starts(paused, DONE)
    done = run_client(daemon.path.parent, "download", "demo")
    assert done.returncode == 0
    assert "paused  (no room)" in done.stderr


def test_goes_on_when_the_daemon_was_killed_and_came_back(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = {"job": job(done=300_000), "created": True}
    with start_client(daemon.path.parent, "download", "demo") as process:
        daemon.wait_for("download.start")
        assert process.stderr is not None
        assert "30.0 %" in process.stderr.readline()
        daemon.die()
        assert "the daemon went away; job job-1 goes on" in process.stderr.readline()
        daemon.replies["download.get"] = {"job": job(done=700_000)}
        daemon.restart()
        assert daemon.wait_for("download.get") == {"id": "job-1"}
        assert "the daemon is back" in process.stderr.readline()
        assert "70.0 %" in process.stderr.readline()
        daemon.event("download", {"job": DONE})
        out, _ = process.communicate()
    assert process.returncode == 0
    assert "done" in out
    assert len(daemon.params_of("download.start")) == 1
    assert len(daemon.params_of("events.subscribe")) == 2


def test_killed_before_the_job_had_an_id_it_is_started_again(daemon: FakeDaemon) -> None:
    dead = threading.Event()

    def die(_call: Call) -> Json:
        daemon.die()
        dead.set()
        return {}

    daemon.replies["download.start"] = die
    with start_client(daemon.path.parent, "download", "demo") as process:
        assert dead.wait(30)
        daemon.replies["download.start"] = {"job": DONE, "created": False}
        daemon.restart()
        process.communicate()
    assert process.returncode == 0
    assert len(daemon.params_of("download.start")) == 2


def test_patience_ends_with_3(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = {"job": job(), "created": True}
    with start_client(daemon.path.parent, "download", "demo", "--patience", "0") as process:
        daemon.wait_for("download.start")
        assert process.stderr is not None
        process.stderr.readline()
        daemon.stop()
        _, err = process.communicate()
    assert process.returncode == 3
    assert "moshid run" in err


def test_a_job_that_the_new_daemon_does_not_know_is_an_error(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = {"job": job(), "created": True}
    daemon.replies["download.get"] = Fault("download.no_such_job", "no job job-1")
    with start_client(daemon.path.parent, "download", "demo") as process:
        assert process.stderr is not None
        process.stderr.readline()
        daemon.die()
        daemon.restart()
        _, err = process.communicate()
    assert process.returncode == 1
    assert "no job job-1" in err


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_detaches_and_the_job_goes_on(daemon: FakeDaemon, as_json: bool) -> None:
    daemon.replies["download.start"] = {"job": job(), "created": True}
    args = ("download", "demo", "--follow") + (("--json",) if as_json else ())
    with start_client(daemon.path.parent, *args) as process:
        stream = process.stdout if as_json else process.stderr
        assert stream is not None
        stream.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert daemon.params_of("download.cancel") == []
    assert daemon.params_of("download.pause") == []
    if as_json:
        assert json.loads(out)["detached"] is True
    else:
        assert "job job-1 goes on" in err


def test_ctrl_c_while_waiting_for_the_daemon_detaches_too(daemon: FakeDaemon) -> None:
    daemon.replies["download.start"] = {"job": job(), "created": True}
    with start_client(daemon.path.parent, "download", "demo") as process:
        daemon.wait_for("download.start")
        assert process.stderr is not None
        process.stderr.readline()
        daemon.die()
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err


def test_a_job_that_becomes_part_of_another_is_followed_there(daemon: FakeDaemon) -> None:
    """Two revisions were one commit, as it turned out."""

    def reply(call: Call) -> Json:
        call.event("download", {"job": job(done=500_000), "absorbed_by": "job-2"})
        call.event("download", {"job": DONE | {"id": "job-2"}})
        return {"job": job(), "created": True}

    daemon.replies["download.start"] = reply
    daemon.replies["download.get"] = {"job": job(done=600_000) | {"id": "job-2"}}
    done = run_client(daemon.path.parent, "--json", "download", "demo")
    assert done.returncode == 0
    assert json.loads(done.stdout)["job"]["id"] == "job-2"
    assert daemon.params_of("download.get") == [{"id": "job-2"}]
