"""The home folder: private, and one daemon's alone."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from moshid import home, logs
from moshid.downloads.ledger_copy import copy_of, read_copy
from moshid.errors import AlreadyRunning, HomeUnusable
from moshid.model.auto import Verdicts
from moshid.settings import MOVE_AWAY, Settings
from moshid.talk.recording import mend_all
from tests.unit.test_auto import mac


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", socket=tmp_path / "home" / "s")


def test_the_folder_is_private_even_if_it_was_not(settings: Settings) -> None:
    settings.home.mkdir(mode=0o755)
    home.prepare(settings)
    assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700
    assert settings.transcripts.is_dir()


@pytest.mark.parametrize("which", ["home", "run_dir", "recordings"])
def test_a_file_in_its_place_is_told(settings: Settings, which: str) -> None:
    path: Path = getattr(settings, which)
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    with pytest.raises(HomeUnusable, match=f"^{path} cannot be used: it is no folder$") as caught:
        home.prepare(settings)
    assert caught.value.hint == MOVE_AWAY
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(HomeUnusable, match=f"^{path} cannot be used: it is no folder$"):
        home.prepare(settings)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_folder_is_refused(settings: Settings) -> None:
    settings.home.mkdir()
    os.chown(settings.home, 65534, -1)
    with pytest.raises(HomeUnusable, match="another user"):
        home.prepare(settings)


def test_a_second_holder_is_refused_until_the_first_lets_go(settings: Settings) -> None:
    home.prepare(settings)
    with home.locked(settings):
        with pytest.raises(AlreadyRunning, match=str(os.getpid())), home.locked(settings):
            pytest.fail("two holders")
        assert settings.lock.read_text() == f"{os.getpid()}\n"
    with home.locked(settings):
        assert settings.lock.read_text() == f"{os.getpid()}\n"


@pytest.mark.usefixtures("no_room")
def test_a_lock_that_cannot_be_written_is_told_by_name(settings: Settings) -> None:
    """Else it seemed to be the output that cannot be written."""
    home.prepare(settings)
    refused = pytest.raises(HomeUnusable, match="lock cannot be written: File too large")
    with refused, home.locked(settings):
        pytest.fail("locked")


@pytest.mark.parametrize("which", ["lock", "log_file"])
def test_a_folder_in_the_place_of_its_files_is_told(settings: Settings, which: str) -> None:
    home.prepare(settings)
    path: Path = getattr(settings, which)
    path.mkdir()
    with (
        pytest.raises(HomeUnusable, match=f"{path} cannot be .*: Is a directory") as caught,
        home.locked(settings),
        logs.configured(settings),
    ):
        pytest.fail("it starts")
    assert caught.value.hint == MOVE_AWAY


def test_the_lock_dies_with_its_holder(settings: Settings) -> None:
    home.prepare(settings)
    code = (
        "import os, signal, sys; from pathlib import Path; from moshid import home;"
        "from moshid.settings import Settings;"
        "p = Path(sys.argv[1]);\n"
        "with home.locked(Settings(home=p, socket=p / 's')): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(settings.home)], check=False)
    assert done.returncode == -9
    with home.locked(settings):
        assert settings.lock.exists()


@pytest.mark.timeout(20, method="thread")
@pytest.mark.parametrize("which", ["lock", "log_file"])
def test_a_fifo_in_the_place_of_its_files_is_told(settings: Settings, which: str) -> None:
    home.prepare(settings)
    path: Path = getattr(settings, which)
    os.mkfifo(path)
    with (
        pytest.raises(HomeUnusable, match=f"{path} cannot be "),
        home.locked(settings),
        logs.configured(settings),
    ):
        pytest.fail("it is no file")


@pytest.mark.timeout(20, method="thread")
def test_a_fifo_among_what_is_remembered_is_passed_over(settings: Settings) -> None:
    home.prepare(settings)
    note, copy = settings.recordings / "t-1.json", copy_of(settings.ledger)
    for path in (settings.verdicts, note, copy):
        os.mkfifo(path)
    assert Verdicts(settings.verdicts, lambda: mac(24)).chosen("moshiko") is None
    assert asyncio.run(mend_all(settings)) == 0
    assert not note.exists()
    assert read_copy(settings.ledger) == {}
