"""Which job a name means: a URL that several fetch is refused; and what was never downloaded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from tests.fakes.client_process import run_client, short_home, start_client
from tests.fakes.daemon_replies import JOB, REPLIES, STATUS, Json
from tests.fakes.fake_daemon import FakeDaemon, Fault

URL = "https://example.org/f"
REPORT: Json = {"ok": True, "files": []}


def job(name: str, state: str, repo: str = URL) -> Json:
    output = f"/to/{name}" if "://" in repo else None
    return JOB | {"id": name, "repo": repo, "state": state, "output": output}


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with short_home() as home, FakeDaemon(home / "moshid.sock", REPLIES) as fake:
        fake.replies["download.verify"] = REPORT
        fake.replies["download.get"] = {"job": JOB}
        yield fake


METHODS = {
    "pause": "download.pause",
    "resume": "download.resume",
    "cancel": "download.cancel",
    "verify": "download.verify",
    "downloads": "download.get",
}


@pytest.mark.parametrize("command", METHODS)
def test_a_url_of_several_jobs_is_refused_with_their_ids(daemon: FakeDaemon, command: str) -> None:
    jobs = [job("aa", "paused"), job("bb", "downloading"), job("cc", "done", "a/b")]
    daemon.replies["download.list"] = {"jobs": jobs}
    done = run_client(daemon.path.parent, command, URL)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: 2 downloads are of that URL: aa (paused), {URL} to /to/aa; "
        f"bb (downloading), {URL} to /to/bb\n"
        f"hint: Name it by its id: moshi-client {command} bb.\n"
    )
    assert daemon.params_of(METHODS[command]) == []
    done = run_client(daemon.path.parent, command, URL, "--json")
    assert json.loads(done.stderr)["error"]["kind"] == "client.usage"


@pytest.mark.parametrize(
    ("command", "states", "meant"),
    [
        ("pause", ("downloading", "done"), "job-0"),
        ("pause", ("cancelled", "downloading"), "job-1"),
        ("cancel", ("failed", "done"), "job-0"),
        ("resume", ("cancelled", "done"), "job-0"),
        ("verify", ("done", "cancelled"), "job-0"),
        ("downloads", ("done",), "job-0"),
        ("pause", (), URL),
    ],
    ids=str,
)
def test_a_url_means_the_one_job_that_can_be_meant(
    daemon: FakeDaemon, command: str, states: tuple[str, ...], meant: str
) -> None:
    jobs = [job(f"job-{i}", state) for i, state in enumerate(states)]
    daemon.replies["download.list"] = {"jobs": jobs}
    assert run_client(daemon.path.parent, command, URL).returncode == 0
    assert daemon.params_of(METHODS[command]) == [{"id": meant}]


def test_any_job_of_a_url_can_be_looked_at_but_not_all_be_changed(daemon: FakeDaemon) -> None:
    jobs = [job("aa", "done"), job("bb", "done"), job("cc", "failed")]
    daemon.replies["download.list"] = {"jobs": jobs}
    daemon.replies["download.set"] = {"job": JOB}
    done = run_client(daemon.path.parent, "downloads", URL)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: 3 downloads are of that URL: aa (done), {URL} to /to/aa")
    assert run_client(daemon.path.parent, "downloads", URL, "--limit", "1M").returncode == 0
    assert daemon.params_of("download.set") == [{"id": "cc", "limit_bps": 1_000_000}]


def test_a_repositorys_name_goes_to_the_daemon_as_it_is(daemon: FakeDaemon) -> None:
    jobs = [job("aa", "paused", "a/b"), job("bb", "paused", "a/b")]
    daemon.replies["download.list"] = {"jobs": jobs}
    assert run_client(daemon.path.parent, "cancel", "a/b").returncode == 0
    assert daemon.params_of("download.cancel") == [{"id": "a/b"}]
    assert daemon.params_of("download.list") == []


@pytest.mark.parametrize("command", ["downloads", "status"])
def test_the_outputs_of_one_url_are_shown(daemon: FakeDaemon, command: str) -> None:
    jobs = [job("aa", "paused"), job("bb", "downloading")]
    daemon.replies["download.list"] = {"jobs": jobs}
    daemon.replies["daemon.status"] = STATUS | {"downloads": jobs}
    shown = run_client(daemon.path.parent, command).stdout
    assert f"{URL} to /to/aa  " in shown
    assert f"{URL} to /to/bb  " in shown


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        ((), "the default model has not been downloaded\nhint: Fetch it: moshi-client download."),
        (("demo",), "demo has not been downloaded\nhint: Fetch it: moshi-client download demo."),
        ((URL,), f"{URL} has not been downloaded\nhint: hint of download.no_such_job"),
    ],
    ids=str,
)
def test_what_was_never_downloaded_cannot_be_verified(
    daemon: FakeDaemon, args: tuple[str, ...], shown: str
) -> None:
    daemon.replies["download.verify"] = Fault("download.no_such_job", "there is no download job x")
    done = run_client(daemon.path.parent, "verify", *args)
    assert done.returncode == 1
    assert done.stderr == f"error: {shown}\n"


def test_reading_is_said_to_take_a_while_once_it_does(daemon: FakeDaemon) -> None:
    said = threading.Event()
    daemon.replies["download.verify"] = lambda _call: REPORT if said.wait(30) else {}
    with start_client(daemon.path.parent, "verify", "demo") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "reading every byte; this takes a while\n"
        said.set()
        assert process.wait(30) == 0
