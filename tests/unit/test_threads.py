"""A system that gives no more threads: no process is started that nobody could watch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from moshid import threads
from moshid.downloads.awake import Child
from moshid.errors import WorkerDied
from moshid.settings import Settings
from moshid.supervisor import WorkerProcess


@pytest.fixture
def no_threads() -> Iterator[None]:
    """None that begins now has room for its stack."""
    threading.stack_size(1 << 50)
    yield
    threading.stack_size(0)


def test_there_is_room_for_a_process() -> None:
    threads.check_room_for_process()


@pytest.mark.usefixtures("no_threads")
def test_that_there_is_no_room_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="no more threads"):
        threads.check_room_for_process()


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_threads")
async def test_a_worker_cannot_be_started_then(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, socket=tmp_path / "s")
    with pytest.raises(WorkerDied, match="no more threads"):
        await WorkerProcess.start("tests.fakes.toy_worker", settings, on_event=print)


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_threads")
async def test_a_machine_is_not_kept_awake_then(tmp_path: Path) -> None:
    async with Child(["touch", str(tmp_path / "started")])():
        assert not (tmp_path / "started").exists()
