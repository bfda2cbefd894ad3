"""``logs``: the last lines, following, rotation, and a daemon that is down."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.client_process import run_client, short_home, start_client
from tests.fakes.fake_daemon import FakeDaemon


def line(number: int) -> str:
    entry = {"t": "12:00", "level": "info", "logger": "moshid.x", "msg": f"m{number}", "pid": 7}
    return json.dumps(entry) + "\n"


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        (folder / "moshid.log").write_text("".join(line(n) for n in range(30)))
        yield folder


def test_the_last_lines_also_while_the_daemon_is_down(home: Path) -> None:
    done = run_client(home, "logs")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 20
    assert done.stdout.splitlines()[-1] == "12:00  info  moshid.x  m29 pid=7"
    assert run_client(home, "logs", "-n", "1").stdout == "12:00  info  moshid.x  m29 pid=7\n"


def test_any_number_of_lines_may_be_asked_for(home: Path) -> None:
    assert len(run_client(home, "logs", "-n", "9" * 30).stdout.splitlines()) == 30


def test_no_lines_asked_for_are_no_lines(home: Path) -> None:
    assert run_client(home, "logs", "-n", "0").stdout == ""
    assert run_client(home, "logs", "-n", "-1").returncode == 2


def test_json_is_one_object(home: Path) -> None:
    report = json.loads(run_client(home, "logs", "-n", "2", "--json").stdout)
    assert report["file"] == str(home / "moshid.log")
    assert [entry["msg"] for entry in report["lines"]] == ["m28", "m29"]


def test_the_daemon_says_where_its_log_is(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other.log").write_text("no json at all\n")
    with FakeDaemon(home / "moshid.sock") as daemon:
        daemon.hello["log_file"] = str(tmp_path / "other.log")
        assert run_client(home, "logs").stdout == "no json at all\n"


def test_no_log_yet_is_a_failure_with_a_hint(home: Path) -> None:
    (home / "moshid.log").unlink()
    done = run_client(home, "logs")
    assert done.returncode == 1
    assert "moshid run" in done.stderr


def test_an_exception_is_shown_whole(home: Path) -> None:
    entry = {"msg": "broke", "exception": "Traceback\n  ValueError: x"}
    (home / "moshid.log").write_text(json.dumps(entry) + "\n")
    assert run_client(home, "logs").stdout == "broke\nTraceback\n  ValueError: x\n"


@pytest.mark.parametrize("what", ["a folder", "unreadable"])
def test_a_log_that_cannot_be_read_is_said_so(home: Path, what: str) -> None:
    (home / "moshid.log").unlink()
    if what == "a folder":
        (home / "moshid.log").mkdir()
    else:
        (home / "moshid.log").symlink_to("moshid.log")
    done = run_client(home, "logs")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: the log at {home}/moshid.log cannot be read: ")


def test_a_log_that_is_made_empty_is_followed_from_its_beginning(home: Path) -> None:
    """As logrotate does with ``copytruncate``."""
    log = home / "moshid.log"
    with start_client(home, "logs", "--follow", "-n", "1", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["msg"] == "m29"
        for number in (30, 31):
            with log.open("r+") as file:
                file.truncate(0)
                file.write(line(number))
            assert json.loads(process.stdout.readline())["msg"] == f"m{number}"
            with log.open("a") as file:
                file.write(line(100 + number) + line(200 + number))
            for more in (100, 200):
                assert json.loads(process.stdout.readline())["msg"] == f"m{more + number}"
        process.send_signal(signal.SIGINT)
        assert process.communicate()[0] == ""


def test_a_last_line_that_is_being_written_comes_whole(home: Path) -> None:
    log, whole = home / "moshid.log", line(30)
    with log.open("a") as file:
        file.write(whole[:10])
    with start_client(home, "logs", "--follow", "-n", "2", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["msg"] == "m29"
        with log.open("a") as file:
            file.write(whole[10:])
        assert json.loads(process.stdout.readline())["msg"] == "m30"
        process.send_signal(signal.SIGINT)
        process.communicate()


def test_follows_whole_lines_through_a_rotation_until_ctrl_c(home: Path) -> None:
    log = home / "moshid.log"
    with start_client(home, "logs", "--follow", "-n", "1", "--json") as process:
        assert process.stdout is not None

        def next_message() -> str:
            assert process.stdout is not None
            return str(json.loads(process.stdout.readline())["msg"])

        assert next_message() == "m29"
        with log.open("a") as file:
            whole = line(30)
            file.write(whole[:10])
            file.flush()
            file.write(whole[10:] + line(31))
        assert [next_message(), next_message()] == ["m30", "m31"]
        log.rename(home / "moshid.log.1")
        with (home / "moshid.log.1").open("a") as file:
            file.write(line(32))
        log.write_text(line(33))
        assert [next_message(), next_message()] == ["m32", "m33"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
