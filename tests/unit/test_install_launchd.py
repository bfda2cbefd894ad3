"""Installing as a LaunchAgent, as far as files and recorded commands go."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moshid import install, settings
from moshid.errors import ServiceFailed
from moshid.service import bundle
from moshid.service.launchd import LABEL, Launchd
from moshid.service.runner import Ran, SystemRunner
from moshid.settings import Settings
from tests.fakes.recording_runner import RecordingRunner

LOADED_ALREADY = Ran(5, stderr="Bootstrap failed: 5: Input/output error")
IN_PROGRESS = Ran(37, stderr="Bootstrap failed: 37: Operation already in progress")

KICKSTART_OF_ONE_THAT_RUNS = Ran(37, stderr="Could not kickstart service: 37: Operation already")


def answers(_settings: Settings) -> dict[str, Any]:
    """As a daemon does."""
    return {"pid": 7}


class Setup:
    """An installation below ``folder``; the interpreter is probed for real."""

    def __init__(self, folder: Path, runner: RecordingRunner, **env: str) -> None:
        self.env = {"HOME": str(folder), "MOSHID_HOME": str(folder / "home"), **env}
        self.settings = settings.load(env=self.env)
        self.host = install.Host(platform="darwin", env=self.env, runner=runner, hello=answers)
        self.plist = folder / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self.app = folder / "home" / "moshid.app"
        self.said: list[str] = []

    def install(self, *, dry_run: bool = False) -> None:
        install.install(self.settings, dry_run=dry_run, host=self.host, say=self.said.append)

    def uninstall(self) -> None:
        install.uninstall(self.settings, host=self.host, say=self.said.append)

    def job(self) -> dict[str, Any]:
        return dict(plistlib.loads(self.plist.read_bytes()))


def recorder(**answers: Any) -> RecordingRunner:
    scripted = {f"launchctl {word}": answer for word, answer in answers.items()}
    return RecordingRunner(scripted, real=[sys.executable])


def test_writes_the_plist_and_bootstraps_it(tmp_path: Path) -> None:
    runner = recorder()
    setup = Setup(tmp_path, runner, HF_HOME="/hf & <co>", HF_TOKEN="secret")
    setup.install()
    job = setup.job()
    assert job["Label"] == LABEL
    assert job["ProgramArguments"] == [
        str(setup.app / "Contents" / "MacOS" / "moshid"),
        *("-P", "-m", "moshid", "run"),
    ]
    assert job["EnvironmentVariables"]["HF_HOME"] == "/hf & <co>"
    assert job["EnvironmentVariables"]["MOSHID_HOME"] == str(tmp_path / "home")
    assert b"secret" not in setup.plist.read_bytes()
    assert job["KeepAlive"] == {"SuccessfulExit": False}
    assert (job["ProcessType"], job["LimitLoadToSessionType"]) == ("Interactive", "Aqua")
    assert job["ExitTimeOut"] == 20
    assert job["StandardErrorPath"] == str(tmp_path / "home" / "launchd.log")
    (line,) = runner.deeds("launchctl")
    assert line.startswith("bootstrap gui/")
    assert line.endswith(str(setup.plist))


def test_a_daemon_that_is_not_launchds_is_in_its_way(tmp_path: Path) -> None:
    printed = "gui/501/io.github.moshid.daemon = {\n\tstate = running\n\n\tpid = %d\n}\n"
    Setup(tmp_path, recorder(print=Ran(0, stdout=printed % 7))).install()
    with pytest.raises(ServiceFailed, match=r"process 7, is not launchd's"):
        Setup(tmp_path, recorder(print=Ran(0, stdout=printed % 8))).install()


def test_a_changed_job_replaces_the_loaded_one(tmp_path: Path) -> None:
    runner = recorder(bootstrap=[LOADED_ALREADY, IN_PROGRESS, LOADED_ALREADY, Ran(0)])
    waits: list[float] = []
    manager = Launchd(runner, {"HOME": str(tmp_path)}, uid=501, sleep=waits.append)
    assert manager.load(changed=True)
    verbs = [line.split()[0] for line in runner.deeds("launchctl")]
    assert verbs == ["bootstrap", "bootout", "bootstrap", "bootstrap", "bootstrap"]
    assert runner.deeds("launchctl")[1] == f"bootout gui/501/{LABEL}"
    assert len(waits) == 2


@pytest.mark.parametrize("kickstart", [Ran(0), KICKSTART_OF_ONE_THAT_RUNS])
def test_an_unchanged_loaded_job_is_only_started(tmp_path: Path, kickstart: Ran) -> None:
    """`moshi-client stop` left it loaded; one that runs goes on, which is why there is no -k."""
    Setup(tmp_path, recorder()).install()
    runner = recorder(bootstrap=LOADED_ALREADY, kickstart=kickstart)
    setup = Setup(tmp_path, runner)
    setup.install()
    (_bootstrap, started) = runner.deeds("launchctl")
    assert started == f"kickstart gui/{os.getuid()}/{LABEL}"
    assert "launchd: loaded already, nothing changed; it runs" in setup.said


def test_a_loaded_job_that_does_not_start_is_told(tmp_path: Path) -> None:
    Setup(tmp_path, recorder()).install()
    refused = Ran(113, stderr="Could not find service in domain for port")
    setup = Setup(tmp_path, recorder(bootstrap=LOADED_ALREADY, kickstart=refused))
    with pytest.raises(ServiceFailed, match="does not start the job: Could not find") as caught:
        setup.install()
    assert "launchctl kickstart gui/" in caught.value.hint


def test_another_code_that_ends_in_5_is_a_refusal(tmp_path: Path) -> None:
    text = "Bootstrap failed: 125: Domain does not support specified action"
    runner = recorder(bootstrap=Ran(125, stderr=text))
    assert Launchd(runner, {"HOME": str(tmp_path)}, uid=501).load(changed=False)
    assert [line.split()[0] for line in runner.deeds("launchctl")] == ["bootstrap", "load"]


def test_falls_back_to_load(tmp_path: Path) -> None:
    runner = recorder(bootstrap=Ran(1, stderr="Unrecognized subcommand"))
    Setup(tmp_path, runner).install()
    assert runner.deeds("launchctl")[-1].startswith("load -w ")


@pytest.mark.parametrize("load", [Ran(1, stderr="no"), Ran(0, stderr="Load failed: 5: I/O error")])
def test_refusal_names_the_command_and_keeps_the_file(tmp_path: Path, load: Ran) -> None:
    runner = recorder(bootstrap=Ran(125, stderr="Domain does not support it"), load=load)
    setup = Setup(tmp_path, runner)
    with pytest.raises(ServiceFailed, match="Domain does not support it") as caught:
        setup.install()
    assert "launchctl bootstrap gui/" in caught.value.hint
    assert setup.plist.exists()


def test_without_launchctl(tmp_path: Path) -> None:
    runner = RecordingRunner(absent=["launchctl"], real=[sys.executable])
    setup = Setup(tmp_path, runner)
    with pytest.raises(ServiceFailed, match="launchctl is not there"):
        setup.install()
    assert setup.plist.exists()


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    setup = Setup(tmp_path, recorder())
    setup.install(dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert LABEL in setup.said[-1]


def test_the_bundle_asks_for_the_microphone_and_is_signed(tmp_path: Path) -> None:
    runner = recorder()
    setup = Setup(tmp_path, runner)
    setup.install()
    info = plistlib.loads((setup.app / "Contents" / "Info.plist").read_bytes())
    assert info["NSMicrophoneUsageDescription"]
    assert info["LSUIElement"] is True
    assert info["CFBundleIdentifier"] == "io.github.moshid"
    assert (setup.app / "Contents" / "MacOS" / info["CFBundleExecutable"]).stat().st_mode & 0o100
    assert len(runner.lines("codesign")) == 1
    assert runner.lines("codesign")[0].startswith("--force --sign - ")
    assert list(tmp_path.joinpath("home").glob(".moshid.app*")) == []


def test_the_bundles_interpreter_really_runs_moshid(tmp_path: Path) -> None:
    """A copy, with the job's environment, finds its libraries, its packages and moshid."""
    setup = Setup(tmp_path, recorder())
    setup.install()
    job = setup.job()
    program, environment = job["ProgramArguments"][0], job["EnvironmentVariables"]
    probe = "import sys, moshid.settings, msgspec; print(sys.executable)"
    done = subprocess.run(
        [program, "-P", "-c", probe],
        env={**environment, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == program


def test_the_same_bundle_is_not_built_again(tmp_path: Path) -> None:
    """A rebuild would lose the permission that was given to it."""
    Setup(tmp_path, recorder()).install()
    runner = recorder()
    setup = Setup(tmp_path, runner)
    setup.install()
    assert runner.lines("codesign") == []
    assert any("stands already" in line for line in setup.said)


def test_another_interpreter_or_signature_builds_it_anew(tmp_path: Path) -> None:
    app, runner = tmp_path / "moshid.app", RecordingRunner()
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    first = bundle.Interpreter(one, {})
    assert bundle.build(app, first, runner)
    assert not bundle.build(app, first, runner)
    assert bundle.build(app, first, runner, identity="My Certificate")
    assert bundle.build(app, bundle.Interpreter(two, {}), runner, identity="My Certificate")
    assert bundle.executable_of(app).read_bytes() == b"2"


def test_a_bundle_that_cannot_be_signed_is_not_put_in_place(tmp_path: Path) -> None:
    app, program = tmp_path / "moshid.app", tmp_path / "one"
    program.write_bytes(b"1")
    for runner in (
        RecordingRunner({"codesign": Ran(1, stderr="no identity found")}),
        RecordingRunner(absent=["codesign"]),
    ):
        with pytest.raises(ServiceFailed) as caught:
            bundle.build(app, bundle.Interpreter(program, {}), runner)
        assert "codesign --force --sign -" in caught.value.hint
        assert list(tmp_path.iterdir()) == [program]


def test_uninstall_unloads_removes_and_keeps_the_data(tmp_path: Path) -> None:
    Setup(tmp_path, recorder()).install()
    runner = recorder()
    setup = Setup(tmp_path, runner)
    (setup.settings.home / "ledger.db").write_text("data")
    setup.uninstall()
    assert not setup.plist.exists()
    assert not setup.app.exists()
    assert (setup.settings.home / "ledger.db").exists()
    assert runner.deeds("launchctl")[0].startswith("bootout gui/")


def test_state_reads_launchctl_print(tmp_path: Path) -> None:
    out = "x = {\n\tstate = running\n\tpid = 12\n\tlast exit code = 0\n}"
    manager = Launchd(recorder(print=Ran(0, stdout=out)), {"HOME": str(tmp_path)}, uid=501)
    assert manager.state() == (True, "state = running, pid = 12, last exit code = 0")


def test_a_placeholder_left_over_is_caught(tmp_path: Path) -> None:
    manager = Launchd(recorder(), {"HOME": str(tmp_path)})
    configured = settings.load(env={"HOME": str(tmp_path)})
    content = manager.render(configured, ["p"], {"A": "b"})
    manager.check(content, ["p"], {"A": "b"})
    broken = content.replace(str(configured.home).encode(), b"@HOME@")
    with pytest.raises(ServiceFailed):
        manager.check(broken, ["p"], {"A": "b"})


def test_the_real_runner_never_raises(tmp_path: Path) -> None:
    runner = SystemRunner()
    assert runner.run(["no-such-program-here"]).returncode == 127
    assert runner.run([str(tmp_path)]).returncode == 126
    assert runner.run([sys.executable, "-c", "print('out')"]) == Ran(0, "out\n", "")
    endless = [sys.executable, "-c", "import signal; signal.pause()"]
    assert runner.run(endless, timeout_s=0.2).returncode == 124
