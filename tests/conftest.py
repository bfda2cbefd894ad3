"""Fixtures that many tests share: the demo checkpoint, built once and kept."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moshid import mlx_setup
from moshid.demo import checkpoint

REPO_ROOT = Path(__file__).resolve().parent.parent


RUN_S_MAX = float(os.environ.get("MOSHID_TEST_RUN_S_MAX", "1500"))

DEBIAN_SOUND = (
    *("test_audio_codecs", "test_audio_conversation", "test_audio_files"),
    *("test_audio_jack", "test_audio_probe", "test_audio_pulse"),
)
"""Modules that need jackd, PulseAudio, espeak-ng or sox, which `make test` installs on Debian."""

signal.signal(signal.SIGINT, signal.default_int_handler)
for _ignored in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(_ignored, signal.SIG_DFL)
"""A shell that runs the tests in the background, and ``nohup``, ignore these, and so would all
children."""

mlx_setup.prepare()  # for the tests that run plain moshi_mlx, without a worker


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """The folder of the demo checkpoint; never write into it.

    It stays between runs, in ``$MOSHID_TEST_CACHE`` or in ``.cache`` below the repository.
    """
    cache = Path(os.environ.get("MOSHID_TEST_CACHE") or REPO_ROOT / ".cache")
    folder = cache / "demo-checkpoint"
    checkpoint.build(folder)
    return folder


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``tests.fakes.toy_worker``: its plan of faults, its journal."""
    folder = tmp_path / "toy"
    folder.mkdir()
    monkeypatch.setenv("MOSHID_TEST_TOY", str(folder))
    return folder


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file can take a byte, as on a full disk (this one's errno is EFBIG, not ENOSPC)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def pytest_configure(config: pytest.Config) -> None:
    """A run by several processes that does not come to its end shows where it stands, and ends."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(RUN_S_MAX, exit=True, file=os.dup(2))


def pytest_unconfigure() -> None:
    """It has come to its end."""
    faulthandler.cancel_dump_traceback_later()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say of what ran again why it had to."""
    for report in terminalreporter.stats.get("rerun", []):
        crash = getattr(report.longrepr, "reprcrash", None)
        why = (
            str(report.longrepr)
            if crash is None
            else f"{crash.path}:{crash.lineno} {crash.message}"
        )
        terminalreporter.write_line(f"ran again: {report.nodeid}: {' '.join(why.split())[:400]}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Elsewhere than on Linux the private sound servers are left out, and the summary says so."""
    if sys.platform == "linux":
        return
    reason = "needs Debian's sound servers and tools: run on Linux"
    for item in items:
        if item.path.stem in (*DEBIAN_SOUND, "test_audio_service"):
            item.add_marker(pytest.mark.skip(reason=reason))
