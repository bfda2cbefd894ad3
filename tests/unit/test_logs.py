"""The daemon's log: JSON lines in a file, warnings to a pipe, records to whoever listens."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moshid import logs
from moshid.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, socket=tmp_path / "s", log_max_bytes=2000, log_keep=2)


@pytest.fixture(autouse=True)
def _root_as_it_was() -> Iterator[None]:
    before = logging.getLogger().handlers[:]
    yield
    assert logging.getLogger().handlers == before


def lines(settings: Settings) -> list[dict[str, Any]]:
    """The log file's records."""
    return [json.loads(line) for line in settings.log_file.read_text().splitlines()]


def test_records_are_json_with_their_extras_and_tracebacks(settings: Settings) -> None:
    log = logging.getLogger("moshid.test")
    with logs.configured(settings, stream=io.StringIO()):
        log.info("fetched %d bytes", 5, extra={"repo": "a/b"})
        try:
            raise ZeroDivisionError("boom")
        except ZeroDivisionError:
            log.exception("it broke")
        log.debug("too fine")
    first, second = lines(settings)
    assert (first["level"], first["logger"], first["msg"]) == (
        "info",
        "moshid.test",
        "fetched 5 bytes",
    )
    assert first["repo"] == "a/b"
    assert first["t"].endswith("Z")
    assert "ZeroDivisionError: boom" in second["exception"]
    assert second["msg"] == "it broke"


def test_a_pipe_gets_warnings_only_a_terminal_all(settings: Settings) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, wanted in ((io.StringIO(), ["careful"]), (Terminal(), ["fine", "careful"])):
        with logs.configured(settings, stream=stream):
            logging.getLogger("x").info("fine")
            logging.getLogger("x").warning("careful", extra={"n": 1})
        text = stream.getvalue().splitlines()
        assert [line.split(": ")[1].split(" ")[0] for line in text] == wanted
        assert text[-1].endswith("careful n=1")


def test_what_is_logged_commands_no_terminal(settings: Settings) -> None:
    stream = io.StringIO()
    with logs.configured(settings, stream=stream):
        logging.getLogger("x").warning("it said %s", "\x1b[2J\r\x9b1m")
    assert stream.getvalue().endswith("it said \\x1b[2J\\x0d\\x9b1m\n")


def test_a_stream_that_nobody_reads_holds_up_nothing(settings: Settings) -> None:
    """A terminal after Ctrl-S, or a pipe into a program that is stopped."""
    settings = replace(settings, log_max_bytes=10_000_000)
    count = 2 * logs.STREAM_RECORDS_MAX
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w")
    with logs.configured(settings, stream=stream):
        for n in range(count):
            logging.getLogger("x").warning("line %d %s", n, "x" * 100)
    assert lines(settings)[-1]["msg"].startswith(f"line {count - 1} ")
    os.close(read_end)  # the thread that waits there ends
    for thread in threading.enumerate():
        if thread.name == "log stream":
            thread.join()
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_the_file_is_rotated_and_old_ones_go(settings: Settings) -> None:
    with logs.configured(settings, stream=io.StringIO()):
        for n in range(200):
            logging.getLogger("x").info("line %d", n)
    names = sorted(p.name for p in settings.home.iterdir())
    assert names == ["moshid.log", "moshid.log.1", "moshid.log.2"]
    assert lines(settings)[-1]["msg"] == "line 199"


def test_a_log_that_cannot_be_rotated_goes_on_and_says_so(settings: Settings) -> None:
    """Here a folder stands where the oldest one would go; the others keep their places."""
    settings = replace(settings, log_keep=1)
    blocked = settings.home / "moshid.log.1"
    (blocked / "within").mkdir(parents=True)
    with logs.configured(settings, stream=io.StringIO()):
        for n in range(100):
            logging.getLogger("x").info("line %d", n)
    told = lines(settings)
    assert [line["msg"] for line in told if line["logger"] == "x"] == [
        f"line {n}" for n in range(100)
    ]
    warnings = [line["msg"] for line in told if line["level"] == "warning"]
    assert all("moshid.log cannot be rotated, and grows: [Errno " in msg for msg in warnings)
    assert 1 <= len(warnings) <= settings.log_file.stat().st_size / settings.log_max_bytes
    blocked.rename(settings.home / "elsewhere")
    with logs.configured(settings, stream=io.StringIO()):
        logging.getLogger("x").info("after")
    assert [line["msg"] for line in lines(settings)] == ["after"]
    assert blocked.is_file()


@pytest.mark.parametrize("how", ["deleted", "moved", "another in its place"])
def test_it_goes_on_where_it_is_looked_for(settings: Settings, how: str) -> None:
    """By a user who tidies up, or by logrotate."""
    aside = settings.home / "aside"
    with logs.configured(settings, stream=io.StringIO()) as recent:
        written: queue.SimpleQueue[str] = queue.SimpleQueue()
        recent.listener = lambda line: written.put(line["msg"])
        logging.getLogger("x").info("before")
        assert written.get(timeout=30) == "before"
        settings.log_file.rename(aside)
        if how == "deleted":
            aside.unlink()
        elif how == "another in its place":
            settings.log_file.touch()
        logging.getLogger("x").info("after")
    assert [line["msg"] for line in lines(settings)] == ["after"]
    assert how == "deleted" or aside.read_text().count("\n") == 1


def test_the_last_records_are_kept_and_told(settings: Settings) -> None:
    told: list[dict[str, Any]] = []
    with logs.configured(settings, stream=io.StringIO()) as recent:
        logging.getLogger("x").info("before anybody listens")
        recent.listener = told.append
        for n in range(logs.RECENT_MAX + 5):
            logging.getLogger("x").info("line %d", n)
    assert told[0]["msg"] in ("before anybody listens", "line 0")
    assert told[-1]["msg"] == recent.recent[-1]["msg"] == f"line {logs.RECENT_MAX + 4}"
    assert len(recent.recent) == logs.RECENT_MAX


def test_a_log_that_cannot_be_written_is_said_once(settings: Settings) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    settings.log_file.symlink_to("/dev/full")
    stream = io.StringIO()
    with logs.configured(settings, stream=stream):
        for number in range(3):
            logging.getLogger("moshid.test").info("record %d", number)
    said = stream.getvalue()
    assert said.count("\n") == 1
    assert "cannot be written: [Errno 28] No space left on device (record 0)" in said
