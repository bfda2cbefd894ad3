"""Installing as a systemd user unit: the file, its quoting, systemctl's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshid import install, settings
from moshid.errors import HomeUnusable, ServiceFailed
from moshid.service.runner import Ran, SystemRunner
from moshid.service.systemd import Systemd, quote, unquote
from moshid.settings import Settings
from tests.fakes.recording_runner import RecordingRunner

NO_BUS = Ran(1, stderr="Failed to connect to bus: No medium found")


class Setup:
    """An installation below ``folder``, with recorded commands."""

    def __init__(self, folder: Path, runner: RecordingRunner, **env: str) -> None:
        self.env = {"HOME": str(folder), "MOSHID_HOME": str(folder / "home"), **env}
        self.settings: Settings = settings.load(env=self.env)
        self.host = install.Host(
            platform="linux",
            env=self.env,
            runner=runner,
            python="/usr/bin/py",
            hello=lambda _settings: self.answers.pop(0) if self.answers else None,
            patience_s=0.0,
        )
        self.answers: list[dict[str, Any] | None] = [{"pid": 7}]
        self.unit = folder / ".config" / "systemd" / "user" / "moshid.service"
        self.said: list[str] = []

    def install(self, *, dry_run: bool = False) -> None:
        install.install(self.settings, dry_run=dry_run, host=self.host, say=self.said.append)

    def uninstall(self, *, dry_run: bool = False) -> None:
        install.uninstall(self.settings, dry_run=dry_run, host=self.host, say=self.said.append)


def inactive() -> RecordingRunner:
    return RecordingRunner({"systemctl --user is-active": Ran(3, stdout="inactive\n")})


def test_writes_checks_and_starts_the_unit(tmp_path: Path) -> None:
    runner = inactive()
    setup = Setup(tmp_path, runner, HF_HOME="/hf", HF_TOKEN="secret")
    setup.install()
    text = setup.unit.read_text()
    assert 'ExecStart="/usr/bin/py" "-P" "-m" "moshid" "run"\n' in text
    assert 'Environment="HF_HOME=/hf"\n' in text
    assert f'Environment="MOSHID_HOME={tmp_path}/home"\n' in text
    assert "secret" not in text
    assert "@" not in text
    assert setup.unit.stat().st_mode & 0o777 == 0o644
    assert runner.deeds("systemctl")[-2:] == [
        "--user daemon-reload",
        "--user enable --now moshid.service",
    ]
    assert any(line.startswith("warning: HF_TOKEN is left out") for line in setup.said)


@pytest.mark.parametrize("home", ["new\nline", "bell\a", "\udcff"], ids=ascii)
def test_a_home_that_no_unit_can_name_is_refused(tmp_path: Path, home: str) -> None:
    setup = Setup(tmp_path, inactive(), MOSHID_HOME=str(tmp_path / home))
    with pytest.raises(ServiceFailed, match=r"MOSHID_HOME is .*, which no job's file can say"):
        setup.install()
    assert not setup.unit.exists()


def test_nothing_is_written_for_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    setup = Setup(tmp_path, inactive())
    with pytest.raises(HomeUnusable, match="home cannot be used: it is no folder"):
        setup.install()
    assert not setup.unit.exists()


def test_a_folder_in_the_units_place_is_told(tmp_path: Path) -> None:
    setup = Setup(tmp_path, inactive())
    setup.unit.mkdir(parents=True)
    with pytest.raises(ServiceFailed, match=r"moshid\.service cannot be removed: "):
        setup.uninstall()


def test_a_daemon_that_does_not_answer_is_no_success(tmp_path: Path) -> None:
    setup = Setup(tmp_path, inactive())
    setup.answers = []
    with pytest.raises(ServiceFailed, match="does not answer") as caught:
        setup.install()
    assert "journalctl --user -u moshid" in caught.value.hint


def test_a_daemon_that_was_started_by_hand_is_in_the_jobs_way(tmp_path: Path) -> None:
    runner = inactive()
    runner.answers["systemctl --user show"] = Ran(0, stdout="0\n")
    with pytest.raises(ServiceFailed, match=r"process 7, is not systemd's") as caught:
        Setup(tmp_path, runner).install()
    assert "moshi-client stop" in caught.value.hint


def test_it_is_told_which_process_answers(tmp_path: Path) -> None:
    runner = inactive()
    runner.answers["systemctl --user show"] = Ran(0, stdout="7\n")
    setup = Setup(tmp_path, runner)
    setup.install()
    assert "it answers, process 7" in setup.said


def test_the_stop_timeout_follows_the_setting(tmp_path: Path) -> None:
    setup = Setup(tmp_path, inactive(), MOSHID_STOP_TIMEOUT_S="33.5")
    setup.install()
    assert "TimeoutStopSec=71\n" in setup.unit.read_text()


def test_again_changes_nothing_and_restarts_nothing(tmp_path: Path) -> None:
    Setup(tmp_path, inactive()).install()
    runner = RecordingRunner()  # is-active: yes
    setup = Setup(tmp_path, runner)
    before = setup.unit.stat()
    setup.install()
    assert setup.unit.stat().st_mtime_ns == before.st_mtime_ns
    assert "--user restart moshid.service" not in runner.deeds("systemctl")
    assert list(setup.unit.parent.iterdir()) == [setup.unit]


def test_a_changed_unit_that_runs_is_restarted(tmp_path: Path) -> None:
    Setup(tmp_path, inactive()).install()
    runner = RecordingRunner()
    Setup(tmp_path, runner, HF_HOME="/other").install()
    assert runner.deeds("systemctl")[-1] == "--user restart moshid.service"


def test_dry_run_does_nothing(tmp_path: Path) -> None:
    runner = RecordingRunner()
    setup = Setup(tmp_path, runner)
    setup.install(dry_run=True)
    assert list(tmp_path.iterdir()) == []
    assert runner.commands == []
    assert "ExecStart=" in setup.said[-1]


@pytest.mark.parametrize(
    ("runner", "message", "hint"),
    [
        (RecordingRunner(absent=["systemctl"]), "systemctl is not there", "moshid run"),
        (
            RecordingRunner({"systemctl --user daemon-reload": NO_BUS}),
            "No medium found",
            "enable-linger",
        ),
        (
            RecordingRunner({"systemctl --user enable": Ran(1, stderr="Unit is masked.")}),
            "masked",
            "systemctl --user enable --now moshid.service",
        ),
    ],
)
def test_where_it_cannot_be_loaded_the_file_stays_and_the_command_is_named(
    tmp_path: Path, runner: RecordingRunner, message: str, hint: str
) -> None:
    setup = Setup(tmp_path, runner)
    with pytest.raises(ServiceFailed, match=message) as caught:
        setup.install()
    assert hint in caught.value.hint
    assert setup.unit.exists()
    assert any(str(setup.unit) in line for line in setup.said)


def test_where_it_cannot_be_unloaded_the_command_that_does_is_named(tmp_path: Path) -> None:
    Setup(tmp_path, inactive()).install()
    setup = Setup(tmp_path, RecordingRunner({"systemctl --user disable": NO_BUS}))
    with pytest.raises(ServiceFailed, match="No medium found") as caught:
        setup.uninstall()
    assert "systemctl --user disable --now moshid.service" in caught.value.hint
    assert "enable --now" not in caught.value.hint
    assert not setup.unit.exists()


def test_systemd_analyze_complaints_are_shown(tmp_path: Path) -> None:
    runner = inactive()
    runner.answers["systemd-analyze"] = Ran(1, stderr="moshid.service: Unknown key")
    setup = Setup(tmp_path, runner)
    setup.install()
    assert "warning: systemd-analyze: moshid.service: Unknown key" in setup.said


def test_uninstall_removes_the_unit_and_keeps_the_data(tmp_path: Path) -> None:
    setup = Setup(tmp_path, inactive())
    setup.settings.home.mkdir()
    setup.install()
    (setup.settings.home / "ledger.db").write_text("data")
    runner = RecordingRunner()
    again = Setup(tmp_path, runner)
    again.uninstall()
    assert not setup.unit.exists()
    assert (setup.settings.home / "ledger.db").exists()
    assert runner.deeds("systemctl") == [
        "--user disable --now moshid.service",
        "--user daemon-reload",
    ]
    assert again.said[-1].startswith(f"kept: {setup.settings.home}")


def test_uninstall_where_nothing_is_installed(tmp_path: Path) -> None:
    runner = RecordingRunner()
    setup = Setup(tmp_path, runner)
    setup.uninstall()
    assert setup.said[0] == "not installed"
    assert runner.commands == []


def test_uninstall_without_a_bus_removes_the_file_all_the_same(tmp_path: Path) -> None:
    Setup(tmp_path, inactive()).install()
    setup = Setup(tmp_path, RecordingRunner({"systemctl": NO_BUS}))
    with pytest.raises(ServiceFailed, match="No medium found"):
        setup.uninstall()
    assert not setup.unit.exists()


def test_uninstall_dry_run_keeps_the_file(tmp_path: Path) -> None:
    setup = Setup(tmp_path, inactive())
    setup.install()
    setup.uninstall(dry_run=True)
    assert setup.unit.exists()
    assert f"would remove {setup.unit}" in setup.said


def test_an_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("a file in the way")
    with pytest.raises(ServiceFailed, match="cannot be written"):
        Setup(tmp_path, inactive()).install()


printable = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"))


@given(printable)
def test_quoting_round_trips(word: str) -> None:
    assert unquote(quote(word)) == word
    assert unquote(quote(word, command=True), command=True) == word


@pytest.mark.parametrize("value", ['/a "b" c', "/100%/x", "/back\\slash", "/$HOME/${x}", "/ü é"])
def test_odd_paths_survive_the_units_quoting(tmp_path: Path, value: str) -> None:
    manager = Systemd(RecordingRunner(), {"HOME": str(tmp_path)})
    environment, program = {"HF_HOME": value}, [value, "-m", "moshid"]
    configured = settings.load(env={"HOME": str(tmp_path)})
    content = manager.render(configured, program, environment)
    manager.check(content, program, environment)
    with pytest.raises(ServiceFailed):
        manager.check(content, program, {"HF_HOME": value + "x"})
    with pytest.raises(ServiceFailed):
        manager.check(content, [*program, "x"], environment)


def test_the_real_systemd_finds_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd-analyze is installed; its verdict needs a runtime directory."""
    runner = SystemRunner()
    if runner.which("systemd-analyze") is None:
        return
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    env = {"HOME": str(tmp_path)}
    manager = Systemd(runner, env)
    program = ["/bin/sh", "-c", "exit"]
    manager.file.parent.mkdir(parents=True)
    manager.file.write_bytes(manager.render(settings.load(env=env), program, {"HF_HOME": "/x y"}))
    assert manager.verify() == []
    manager.file.write_text(manager.file.read_text().replace("Type=exec", "Type=nonsense"))
    assert manager.verify() != []
