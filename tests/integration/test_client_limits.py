"""How downloads use the line, by the client: what its flags ask for, what it prints, what it
refuses; and once with the real daemon, over a kill."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from moshi_client import cli
from moshid.demo.home import World
from tests.fakes.client_process import client_env, short_home
from tests.fakes.fake_daemon import FakeDaemon

Json = dict[str, Any]

JOB: Json = {
    "id": "job-1",
    "repo": "kyutai/x",
    "state": "queued",
    "bytes_total": 2_000_000,
    "bytes_done": 500_000,
    "rate_bps": 0.0,
    "eta_s": None,
    "priority": "low",
    "limit_bps": 1_500_000,
    "error": {"message": "outside the download schedule", "kind": "download.waits_for_schedule"},
}
LIMITS: Json = {
    "limit_bps": 2_000_000,
    "schedule": "22:00-07:00",
    "metered": True,
    "open": False,
    "until": "2025-06-02T22:00",
    "limit_now_bps": 2_000_000,
}
SAID = (
    "at most 2.0 MB/s; hours 22:00-07:00, closed until 2025-06-02 22:00; metered: only high "
    "priority"
)


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    replies: dict[str, Any] = {
        "download.list": {"jobs": [JOB], "limits": LIMITS},
        "download.get": {"job": JOB},
        "download.set": {"job": JOB},
        "download.start": {"job": JOB, "created": True},
        "download.limits": LIMITS,
        "daemon.status": {"downloads": [JOB], "limits": LIMITS},
    }
    with short_home() as home, FakeDaemon(home / "moshid.sock", replies) as fake:
        yield fake


def run(daemon: FakeDaemon, line: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    args = [arg.replace("_", " ") for arg in line.split()]
    return cli.main(args, client_env(daemon.path.parent), out, err), out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("line", "method", "params"),
    [
        ("downloads --limit 2M", "download.limits", {"limit_bps": 2_000_000}),
        ("downloads --limit 1.5MB/s", "download.limits", {"limit_bps": 1_500_000}),
        ("downloads --limit off", "download.limits", {"limit_bps": None}),
        ("downloads --schedule 22:00-07:00", "download.limits", {"schedule": "22:00-07:00"}),
        ("downloads --schedule off", "download.limits", {"schedule": None}),
        (
            "downloads --metered on --limit 500k",
            "download.limits",
            {"limit_bps": 500_000, "metered": True},
        ),
        ("downloads --metered off", "download.limits", {"metered": False}),
        ("downloads x --priority high", "download.set", {"id": "x", "priority": "high"}),
        ("downloads x --limit off", "download.set", {"id": "x", "limit_bps": None}),
        ("downloads x", "download.get", {"id": "x"}),
        (
            "download a/b --detach --priority low --limit 2MiB",
            "download.start",
            {"repo": "a/b", "priority": "low", "limit_bps": 2 << 20},
        ),
    ],
)
def test_flags_ask_for(daemon: FakeDaemon, line: str, method: str, params: Json) -> None:
    code, out, err = run(daemon, f"{line} --json")
    assert (code, err) == (0, "")
    assert daemon.params_of(method) == [params]
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("downloads --limit fast", "--limit: 'fast' is no rate, as 500k, 2M, 1.5MB/s or off"),
        ("downloads --limit 0", "--limit: '0' is no rate"),
        ("downloads --limit nan", "--limit: 'nan' is no rate"),
        ("download demo --limit -1M", "--limit"),
        ("downloads --priority high", "--priority belongs to a job: name it"),
        ("downloads x --metered on", "--metered goes for all downloads"),
        ("downloads x --schedule off", "--schedule goes for all downloads"),
        ("downloads --metered perhaps", "invalid choice: 'perhaps'"),
        ("downloads x --priority urgent", "invalid choice: 'urgent'"),
    ],
)
def test_what_makes_no_sense_is_refused(daemon: FakeDaemon, line: str, says: str) -> None:
    code, out, err = run(daemon, line)
    assert (code, out) == (2, "")
    assert says in err
    assert daemon.calls == []


def test_limits_and_terms_are_shown(daemon: FakeDaemon) -> None:
    _, out, _ = run(daemon, "downloads")
    assert "low, 1.5 MB/s at most  outside the download schedule" in out
    assert out.endswith(f"\nall downloads: {SAID}\n")
    _, out, _ = run(daemon, "status")
    assert SAID in out
    assert "outside the download schedule" in out
    daemon.replies["download.list"] = {"jobs": [], "limits": LIMITS | {"open": True}}
    assert "open until 2025" in run(daemon, "downloads")[1]


def test_one_job_can_be_followed(daemon: FakeDaemon) -> None:
    other = JOB | {"id": "job-2"}
    daemon.replies["events.subscribe"] = {"snapshot": {"download": {"jobs": [other, JOB]}}}

    def then_die(call: Any) -> Json:
        call.event("download", {"job": other})
        call.event("download", {"job": JOB | {"state": "done"}})
        return {"job": JOB}

    daemon.replies["download.get"] = then_die
    out = io.StringIO()

    class Closing(io.StringIO):
        def write(self, text: str) -> int:
            out.write(text)
            if '"done"' in text:
                raise KeyboardInterrupt
            return len(text)

    args = ["downloads", "x", "--follow", "--json"]
    code = cli.main(args, client_env(daemon.path.parent), Closing(), io.StringIO())
    assert code == 130
    shown = [json.loads(line)["job"] for line in out.getvalue().splitlines()]
    assert [(j["id"], j["state"]) for j in shown] == [("job-1", "queued"), ("job-1", "done")]


def test_the_daemon_remembers_over_a_kill() -> None:
    with World() as world:
        world.env["HF_ENDPOINT"] = "http://127.0.0.1:9"
        world.start_daemon()

        def client(*args: str) -> Json:
            out, err = io.StringIO(), io.StringIO()
            code = cli.main([*args, "--json"], world.env, out, err)
            told: Json = json.loads(out.getvalue() or err.getvalue()) | {"code": code}
            return told

        job = client("download", "a/b", "--detach", "--priority", "low", "--limit", "500k")["job"]
        assert (job["priority"], job["limit_bps"]) == ("low", 500_000)
        client("downloads", "--metered", "on", "--limit", "2M")
        error = client("downloads", "--schedule", "nights")
        assert error["code"] == 2
        assert "--schedule: 'nights' is no window of time" in error["error"]["message"]
        client("downloads", job["id"], "--priority", "normal", "--limit", "off")
        with world.connect() as connection:
            connection.call("events.subscribe", {"topics": ["download"]})
            found = connection.call("download.get", {"id": job["id"]})["job"]
            updates = connection.follow()
            while (found["error"] or {}).get("kind") != "download.waits_for_line":
                found = next(updates)[1]["data"]["job"]
        world.kill_daemon()
        world.start_daemon()
        told = client("downloads")
        assert (told["limits"]["limit_bps"], told["limits"]["metered"]) == (2_000_000, True)
        (job,) = told["jobs"]
        assert (job["state"], job["priority"], job["limit_bps"]) == ("queued", "normal", None)
        assert client("status")["limits"] == told["limits"]
        assert world.stop_daemon() == 0, world.daemon_log()
