"""A talk whose disk stands still ends all the same; what is kept of it is finished later."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moshid import daemon
from moshid.errors import BadAudioFile, InvalidParams
from moshid.events import Bus
from moshid.talk.joining import check_files
from moshid.talk.request import TalkRequest
from tests.fakes.talk_parts import FakeParts, talking

pytestmark = pytest.mark.asyncio

REQUEST = TalkRequest(seed=7)
TIMEOUT_S = 60.0


def stand_still() -> threading.Event:
    """All work in threads waits until the event is set, as that of a disk would."""
    goes = threading.Event()
    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    threads.submit(goes.wait, TIMEOUT_S)
    return goes


async def test_a_disk_that_stands_still_holds_up_no_end_and_loses_no_word(tmp_path: Path) -> None:
    parts, bus = FakeParts(), Bus()
    async with talking(tmp_path, parts, bus, patience_s=0.01) as talks:
        await talks.start(REQUEST, "me")
        goes = stand_still()
        parts.hooks["on_text"]({"frame": 3, "piece": " hello"})
        final = await talks.stop()
        assert (final["state"], final["reason"]) == ("stopped", "stopped")
        assert talks.status()["session"] is None, "there is room for the next"
        assert list((tmp_path / "transcripts").iterdir()) == []
        asyncio.get_running_loop().call_later(0.01, goes.set)  # while the daemon stops
    (kept,) = (tmp_path / "transcripts").iterdir()
    assert '" hello"' in kept.read_text()


async def test_files_on_a_disk_that_says_nothing_hold_up_nobody_and_are_named(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.wav"
    request = TalkRequest(in_file=str(path), out_file=str(tmp_path / "." / "a.wav"))
    request.check()  # on the event loop: it may not look whether they are one
    with pytest.raises(InvalidParams, match="same file"):
        await check_files(request)
    goes = stand_still()
    with pytest.raises(BadAudioFile, match=r"says nothing of .*a\.wav") as caught:
        await check_files(request, limit_s=0.01)
    assert "another disk" in caught.value.hint
    goes.set()


async def test_threads_that_wait_for_a_disk_hold_up_no_end_of_the_daemon() -> None:
    goes = threading.Event()
    threads = ThreadPoolExecutor(2)
    waiting = threads.submit(goes.wait, TIMEOUT_S)
    daemon.leave(threads, limit_s=0.01)
    assert not waiting.done()
    goes.set()
    daemon.leave(threads, limit_s=TIMEOUT_S)
    assert waiting.done()
