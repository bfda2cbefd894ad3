"""The real daemon as its own process: single instance, signals, death, bad starts."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from moshi_client.errors import RemoteError
from moshid import daemon
from moshid.demo.home import World
from moshid.demo.watch import Watch


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def run_daemon(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``moshid run`` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "moshid", "run", *arguments],
        env=world.env,
        capture_output=True,
        text=True,
        check=False,
    )


def workers(world: World) -> list[psutil.Process]:
    """The daemon's children."""
    return psutil.Process(world.daemon_pid).children()


def gone(processes: list[psutil.Process]) -> bool:
    """Whether all of them end (they may be on their way)."""
    return not psutil.wait_procs(processes, timeout=60)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_in_order(world: World, number: signal.Signals) -> None:
    world.start_daemon()
    children = workers(world)
    assert children, "the spare audio worker"
    os.kill(world.daemon_pid, number)
    assert world.wait_daemon() == 0, world.daemon_log()
    assert gone(children)
    assert not world.socket.exists()
    assert '"msg": "stopped"' in world.daemon_log()


def test_nohup_keeps_it_when_its_terminal_goes(world: World) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        world.start_daemon()
    finally:
        signal.signal(signal.SIGHUP, before)
    os.kill(world.daemon_pid, signal.SIGHUP)
    assert world.call("daemon.status")["pid"] == world.daemon_pid
    assert world.stop_daemon() == 0


def test_stop_by_rpc(world: World) -> None:
    world.start_daemon()
    assert world.call("daemon.stop") == {"stopping": True}
    assert world.wait_daemon() == 0


def test_once_the_client_has_stopped_it_another_can_start(world: World) -> None:
    world.start_daemon("--set", "stop_timeout_s=1")
    for child in workers(world):
        child.suspend()  # it hangs, and has to be killed
    world.run_client("stop")
    with (world.home / "moshid.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert world.wait_daemon() == 0, world.daemon_log()


def test_a_stop_asked_for_twice_is_as_orderly(world: World) -> None:
    """A second signal forces; a second client does not."""
    world.start_daemon()
    calls = [{"jsonrpc": "2.0", "id": n, "method": "daemon.stop"} for n in (1, 2)]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(world.socket))
        sock.sendall(json.dumps(calls).encode() + b"\n")
        replies = json.loads(sock.makefile("rb").readline())
    assert [reply["result"] for reply in replies] == [{"stopping": True}] * 2
    assert world.wait_daemon() == 0, world.daemon_log()
    assert not world.socket.exists()


def test_a_second_daemon_is_refused_and_the_first_unharmed(world: World) -> None:
    world.start_daemon()
    pid = world.daemon_pid
    second = run_daemon(world)
    assert second.returncode == 1
    assert f"process {pid}" in second.stderr
    assert "hint:" in second.stderr
    assert world.call("daemon.hello")["pid"] == pid


def test_a_second_home_cannot_take_the_first_ones_socket(world: World, tmp_path: Path) -> None:
    world.start_daemon()
    done = run_daemon(world, "--home", str(tmp_path / "other"), "--socket", str(world.socket))
    assert done.returncode == 1
    assert "another daemon" in done.stderr
    assert "--socket" in done.stderr
    assert world.call("daemon.hello")["pid"] == world.daemon_pid


def test_the_log_is_a_topic(world: World) -> None:
    world.start_daemon()
    with Watch(world, ["log"]) as watch:
        with pytest.raises(RemoteError):
            world.call("model.load", {"model": "moshiko"})
        with world.connect() as connection:
            snapshot = connection.call("events.subscribe", {"topics": ["log", "daemon"]})[
                "snapshot"
            ]
            assert "ready" in [line["msg"] for line in snapshot["log"]["lines"]]
            assert snapshot["daemon"]["pid"] == world.daemon_pid
            child = workers(world)[0]
            child.kill()
            watch.wait_for(
                lambda _topic, line: "worker ended" in line["msg"], "the log's line", 60.0
            )


def test_after_sigkill_workers_die_and_the_next_one_starts(world: World) -> None:
    world.start_daemon()
    children = workers(world)
    world.kill_daemon()
    assert gone(children), "they see the end of their control socket"
    assert world.socket.exists(), "a stale socket is left"
    world.start_daemon()
    assert world.call("daemon.status")["model"]["state"] == "absent", "nothing is on disk"


def test_the_home_is_private(world: World) -> None:
    world.start_daemon()
    assert world.home.stat().st_mode & 0o777 == 0o700
    assert world.socket.stat().st_mode & 0o777 == 0o600
    assert world.home.joinpath("ledger.db").exists()


def test_a_home_that_is_deleted_leaves_it_in_reach(world: World) -> None:
    world.start_daemon()
    with Watch(world, ["log"]) as watch:
        shutil.rmtree(world.home)
        watch.wait_for(lambda _t, line: "made anew" in line["msg"], "the socket", 60.0)
    assert world.call("daemon.status")["pid"] == world.daemon_pid
    assert world.home.stat().st_mode & 0o777 == 0o700
    second = run_daemon(world)
    assert second.returncode == 1
    assert "another daemon" in second.stderr
    assert world.stop_daemon() == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_even_where_he_can_reach_the_socket(world: World) -> None:
    world.start_daemon()
    for path in (world.folder, world.home):
        path.chmod(0o755)
    world.socket.chmod(0o666)
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]); s.settimeout(30);"
        'd = b\'{"jsonrpc":"2.0","id":1,"method":"daemon.hello"}\\n\'\n'
        "try:\n s.sendall(d); sys.exit(len(s.recv(100)))\n"
        "except (BrokenPipeError, ConnectionResetError): sys.exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(world.socket)], check=False)
    assert done.returncode == 0, "closed without a word"
    assert world.call("daemon.hello")["pid"] == world.daemon_pid


def test_a_newer_ledger_is_left_alone(world: World) -> None:
    world.home.mkdir(parents=True)
    ledger = world.home / "ledger.db"
    with sqlite3.connect(ledger) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    before = ledger.read_bytes()
    done = run_daemon(world)
    assert done.returncode == 1
    assert "newer" in done.stderr
    assert "hint:" in done.stderr
    assert "version 999" in (world.home / "moshid.log").read_text(), "for moshi-client logs"
    assert ledger.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--set", "log_keep=many"], 2, "log_keep"),
        (["--set", "nonsense"], 2, "NAME=VALUE"),
        (["--log-level", "loud"], 2, "none of debug"),
        (["--socket", "/tmp/" + "x" * 120], 1, "limit"),
        (["--no-such-flag"], 2, "unrecognized"),
    ],
)
def test_bad_settings_are_told(world: World, arguments: list[str], code: int, says: str) -> None:
    done = run_daemon(world, *arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_of_something_else_in_the_sockets_place(world: World, tmp_path: Path) -> None:
    place = tmp_path / "busy"
    place.write_text("a file of the user's")
    done = run_daemon(world, "--socket", str(place))
    assert done.returncode == 1
    assert f"{place} is a file, no socket" in done.stderr
    assert "hint: Remove it, or move it away." in done.stderr
    assert place.read_text() == "a file of the user's"


def test_a_crowd_of_clients(world: World) -> None:
    """Many connections that say nothing do not keep it from answering or from stopping."""
    world.start_daemon()
    crowd = []
    for _ in range(80):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(world.socket))
        crowd.append(sock)
    assert world.call("daemon.status")["pid"] == world.daemon_pid
    assert world.stop_daemon() == 0
    assert {sock.recv(10) for sock in crowd} == {b""}
    for sock in crowd:
        sock.close()


def test_it_asks_for_more_open_files(world: World) -> None:
    """macOS gives 256, and a hundred clients may be connected beside all downloads."""
    if sys.platform != "linux":
        pytest.skip("/proc tells another process's limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        world.start_daemon()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wanted = daemon.DESCRIPTORS if hard < 0 else min(hard, daemon.DESCRIPTORS)
    assert psutil.Process(world.daemon_pid).rlimit(psutil.RLIMIT_NOFILE)[0] == wanted


def test_unknown_names_and_states_are_errors_by_kind(world: World) -> None:
    world.start_daemon()
    expected = {
        ("model.load", "model", "moshiki"): "model.not_found",
        ("model.load", "model", "moshiko"): "model.not_found",
        ("download.get", "id", "nobody/nothing"): "download.no_such_job",
        ("talk.start", "model", "moshiko"): "model.not_found",
        ("talk.start", "in_file", "relative.wav"): "rpc.invalid_params",
        ("talk.start", "record", "relative"): "rpc.invalid_params",
        ("model.bench", "steps", 3): "model.not_loaded",
    }
    for (method, name, value), kind in expected.items():
        with pytest.raises(RemoteError) as caught:
            world.call(method, {name: value})
        assert caught.value.kind == kind, method
    with pytest.raises(RemoteError) as caught:
        world.call("talk.stop")
    assert caught.value.kind == "talk.none"
