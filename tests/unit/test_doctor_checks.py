"""Each check of ``moshid doctor``, with what it looks at made up."""

from __future__ import annotations

import fcntl
import json
import os
import plistlib
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from moshid import __version__, doctor, settings
from moshid.checks import hardware, job, place
from moshid.checks.check import Check, Machine, ProbeFailed
from moshid.downloads import ledger_file
from moshid.service import bundle
from moshid.service.runner import Ran
from tests.fakes.client_process import short_home
from tests.fakes.fake_daemon import FakeDaemon
from tests.fakes.recording_runner import RecordingRunner


def machine(home: Path, runner: RecordingRunner | None = None, platform: str = "linux") -> Machine:
    env = {"HOME": str(home.parent), "MOSHID_HOME": str(home)}
    return Machine(
        settings=settings.load(env=env),
        platform=platform,
        env=env,
        runner=runner or RecordingRunner(),
    )


def probed(facts: dict[str, Any]) -> RecordingRunner:
    return RecordingRunner({sys.executable: Ran(0, stdout=f"noise\n{json.dumps(facts)}\n")})


def only(checks: Sequence[Check]) -> Check:
    (check,) = checks
    return check


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.parametrize("name", ["run", "transcripts", "recordings", "moshid.lock"])
def test_what_stands_in_the_way_of_a_start_is_told(home: Path, name: str) -> None:
    (home / name).symlink_to("nowhere")
    check = only(place.check_home(machine(home)))
    assert (check.state, f"{home}/{name} is no f" in check.seen) == ("fail", True)


def test_a_home_that_is_a_link_to_nowhere_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(tmp_path / "gone")
    assert only(place.check_home(machine(tmp_path / "home"))).state == "fail"


def test_a_log_that_cannot_be_written_or_rotated_is_told(home: Path) -> None:
    here = machine(home)
    assert only(place.check_log(here)).state == "ok"
    here.settings.log_file.touch()
    (home / "moshid.log.1").touch()
    assert only(place.check_log(here)).state == "ok"
    (home / "moshid.log.3").mkdir()
    check = only(place.check_log(here))
    assert (check.state, "moshid.log.3 is no file" in check.seen) == ("warn", True)
    here.settings.log_file.unlink()
    here.settings.log_file.mkdir()
    assert only(place.check_log(here)).state == "fail"


def test_home_is_ok_when_private(home: Path) -> None:
    assert only(place.check_home(machine(home))).state == "ok"


def test_home_open_to_others_is_a_warning(home: Path) -> None:
    home.chmod(0o755)
    check = only(place.check_home(machine(home)))
    assert (check.state, "0755" in check.seen) == ("warn", True)
    assert check.todo == f"chmod 700 '{home}'"


def test_home_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    assert only(place.check_home(machine(tmp_path / "home"))).state == "fail"


def test_home_not_there_yet_is_ok(tmp_path: Path) -> None:
    check = only(place.check_home(machine(tmp_path / "not" / "yet")))
    assert (check.state, "first start" in check.seen) == ("ok", True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="wants a folder that takes none")
def test_home_that_cannot_be_made_fails(tmp_path: Path) -> None:
    check = only(place.check_home(machine(Path("/proc/foo"))))
    assert (check.state, "nothing can be in /proc" in check.seen) == ("fail", True)
    assert only(place.check_home(machine(tmp_path / "home"))).state == "ok"
    assert list(tmp_path.iterdir()) == [], "the try leaves nothing"


def test_this_python_is_supported() -> None:
    assert only(place.check_python(machine(Path("/h")))).state == "ok"


def test_other_platforms_fail() -> None:
    assert only(place.check_platform(machine(Path("/h"), platform="win32"))).state == "fail"


@pytest.mark.usefixtures("no_room")
def test_home_without_room_fails(home: Path) -> None:
    for folder in (home, home / "yet" / "to be made"):
        check = only(place.check_home(machine(folder)))
        assert (check.state, "File too large" in check.seen) == ("fail", True)
        assert check.todo == place.FREE_OR_ELSEWHERE
    assert list(home.iterdir()) == []


def test_daemon_not_running_is_a_warning_with_the_command(home: Path) -> None:
    check = only(place.check_daemon(machine(home)))
    assert check.state == "warn"
    assert "moshid run" in check.todo


def test_a_file_in_the_sockets_place_fails(home: Path) -> None:
    assert only(place.check_socket(machine(home))).state == "ok"
    (home / "moshid.sock").write_text("")
    check = only(place.check_socket(machine(home)))
    assert (check.state, "is a file, no socket" in check.seen) == ("fail", True)


def test_lock_held_without_an_answer_fails(home: Path) -> None:
    lock = home / "moshid.lock"
    lock.write_text("4321\n")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check = only(place.check_daemon(machine(home)))
    assert check.state == "fail"
    assert "4321" in check.seen
    # A look at the lock does not keep it.
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(("version", "state"), [(__version__, "ok"), ("0.0.1", "warn")])
def test_a_running_daemon_is_asked_for_its_version(version: str, state: str) -> None:
    with short_home() as short, FakeDaemon(short / "moshid.sock") as daemon:
        daemon.replies["daemon.hello"] = daemon.hello | {"version": version}
        check = only(place.check_daemon(machine(short)))
    assert check.state == state
    assert f"pid {os.getpid()}" in check.seen


def make_ledger(home: Path) -> Path:
    path = home / "ledger.db"
    ledger_file.open_ledger(path).close()
    return path


def test_ledger_not_there_and_ledger_in_order_are_ok(home: Path) -> None:
    assert only(place.check_ledger(machine(home))).state == "ok"
    make_ledger(home)
    check = only(place.check_ledger(machine(home)))
    version = f"version {len(ledger_file.MIGRATIONS) + 1}"
    assert (check.state, version in check.seen) == ("ok", True)


@pytest.mark.parametrize("damage", ["newer", "foreign", "no database", "torn"])
def test_ledger_faults_are_found_and_nothing_is_changed(home: Path, damage: str) -> None:
    path = make_ledger(home)
    if damage == "newer":
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    elif damage == "foreign":
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE other (x)")
        db.close()
    elif damage == "no database":
        path.write_bytes(b"no database" * 100)
    else:
        data = bytearray(path.read_bytes())
        data[5000:9000] = b"\xff" * 4000
        path.write_bytes(data)
    before = path.read_bytes()
    check = only(place.check_ledger(machine(home)))
    assert check.state == "fail"
    assert check.todo
    assert path.read_bytes() == before


def test_a_ledger_that_is_a_folder_is_to_be_moved_away(home: Path) -> None:
    (home / "ledger.db").mkdir()
    check = only(place.check_ledger(machine(home)))
    assert (check.state, "is a folder" in check.seen) == ("fail", True)
    assert "Move it away" in check.todo


def test_mlx_that_does_not_import_fails(home: Path) -> None:
    runner = RecordingRunner({sys.executable: Ran(1, stderr="Traceback\nImportError: libmlx\n")})
    check = only(hardware.check_mlx(machine(home, runner)))
    assert (check.state, check.seen) == ("fail", "ImportError: libmlx")


@pytest.mark.parametrize(
    ("platform", "device", "state"),
    [("linux", "cpu", "ok"), ("darwin", "cpu", "warn"), ("darwin", "gpu", "ok")],
)
def test_mlx_device(home: Path, platform: str, device: str, state: str) -> None:
    facts = {"version": "0.26.5", "device": f"Device({device}, 0)", "working_set_bytes": 12e9}
    check = only(hardware.check_mlx(machine(home, probed(facts), platform)))
    assert check.state == state
    assert "12.0 GB for models" in check.seen


@pytest.mark.parametrize(
    ("inputs", "outputs", "state"),
    [(["Mic"], ["Spk"], "ok"), ([], ["Spk"], "warn"), (["Mic"], [], "warn")],
)
def test_sound_needs_both_directions(
    home: Path, inputs: list[str], outputs: list[str], state: str
) -> None:
    facts = {"version": "PortAudio V19", "apis": ["ALSA"], "inputs": inputs, "outputs": outputs}
    assert only(hardware.check_sound(machine(home, probed(facts)))).state == state


def test_missing_portaudio_names_the_package(home: Path) -> None:
    runner = RecordingRunner(
        {sys.executable: Ran(1, stderr="OSError: PortAudio library not found")}
    )
    check = only(hardware.check_sound(machine(home, runner)))
    assert check.state == "fail"
    assert "libportaudio2" in check.todo
    assert "libportaudio2" not in only(hardware.check_sound(machine(home, runner, "darwin"))).todo


def test_a_probe_that_says_nothing_sensible_has_failed(home: Path) -> None:
    for ran in (Ran(0), Ran(0, stdout="no json"), Ran(0, stdout="[1]"), Ran(124, stderr="slow")):
        with pytest.raises(ProbeFailed):
            machine(home, RecordingRunner({sys.executable: ran})).probe("pass")


def test_service_not_installed_installed_and_dead(home: Path) -> None:
    assert "not installed" in only(job.check_job(machine(home))).seen
    unit = home.parent / ".config" / "systemd" / "user" / "moshid.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("")
    active = RecordingRunner({"systemctl --user is-active": Ran(0, stdout="active\n")})
    assert only(job.check_job(machine(home, active))).seen == "systemd: active"
    dead = RecordingRunner({"systemctl --user is-active": Ran(3, stdout="failed\n")})
    check = only(job.check_job(machine(home, dead)))
    assert (check.state, "failed" in check.seen) == ("warn", True)


def test_microphone_bundle(home: Path) -> None:
    assert job.check_bundle(machine(home)) == []
    assert only(job.check_bundle(machine(home, platform="darwin"))).seen == "no app bundle"
    contents = bundle.app_path(home) / "Contents"
    contents.mkdir(parents=True)
    (contents / "Info.plist").write_bytes(plistlib.dumps({"CFBundleName": "x"}))
    assert only(job.check_bundle(machine(home, platform="darwin"))).state == "fail"
    info = {"NSMicrophoneUsageDescription": "y", "MoshidSignedBy": "-"}
    (contents / "Info.plist").write_bytes(plistlib.dumps(info))
    assert only(job.check_bundle(machine(home, platform="darwin"))).state == "ok"
    unsigned = RecordingRunner({"codesign": Ran(1, stderr="code object is not signed at all")})
    assert only(job.check_bundle(machine(home, unsigned, "darwin"))).state == "fail"


def test_a_check_that_breaks_is_a_failure_and_the_others_go_on(home: Path) -> None:
    def breaks(_machine: Machine) -> list[Check]:
        raise ZeroDivisionError("oh")

    checks = [("one", breaks), ("python", place.check_python)]
    verdicts = list(doctor.examine(machine(home), checks))
    assert [(v.name, v.state) for v in verdicts] == [("one", "fail"), ("python", "ok")]


def test_report_says_what_to_do_and_counts() -> None:
    text = doctor.report([Check("a", "ok", "seen"), Check("long", "fail", "bad", "mend it")])
    assert (
        text == "ok    a     seen\nfail  long  bad\n            -> mend it\n1 ok, 0 warn, 1 fail\n"
    )
